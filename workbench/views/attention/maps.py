"""Attention maps in blocks of tokens: a large one, and small ones of all heads."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, reduce

import numpy as np

from workbench.traces.trace import attention_blocks
from workbench.views.attention.recorded import Recorded

THUMBNAIL = 48  # blocks along a side of a thumbnail, at most
BLOCKS = 512  # blocks along a side of a large map, at most
ROWS = 1024  # query tokens that a thumbnail looks at, at most


def block_size(tokens: int, most: int) -> int:
    """Tokens along a side of a block, of which at most `most` cover the text."""
    return max(1, -(-tokens // most))


def thumbnail_block(tokens: int) -> tuple[int, int]:
    """Tokens along a side of a thumbnail's block, and how many query tokens it skips on."""
    every = block_size(tokens, ROWS)
    return every * block_size(-(-tokens // every), THUMBNAIL), every


def log_totals(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Logarithm of every softmax's denominator, [token] float32."""
    first = len(key) - len(query)  # queries may be the last tokens only
    blocks = attention_blocks(query, key, np.arange(first, len(key)))
    return np.concatenate([np.empty(0, np.float32), *(total for _, _, total in blocks)])


def aggregated(
    query: np.ndarray,
    key: np.ndarray,
    size: int,
    sink: int,
    minus: tuple[np.ndarray, np.ndarray] | None = None,
    every: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A map in blocks of `size` × `size` tokens.

    Parameters
    ----------
    query, key
        [token, head_dim].
    sink
        So many first tokens are left out as keys.
    minus
        Query and key of a head whose weights are subtracted.
    every
        Look at every n-th query token only; divides `size`.

    Returns
    -------
    Each [block, block] float32, rows attend to columns: the strongest weight of a block (of a
    difference the one of largest size, with its sign); the mean of its weights, of those that are
    possible (no token attends to a later one); the logarithm of each looked-at row's denominator.
    """
    tokens = np.arange(0, len(key), every)
    count = -(-len(key) // size)
    high, low, total = np.zeros((3, count, count), dtype=np.float32)
    inside = size // every  # looked-at rows of a block
    rows = inside * max(1, 64 // inside)
    parts = [attention_blocks(query[::every], key, tokens, rows)]
    if minus is not None:
        parts.append(attention_blocks(minus[0][::every], minus[1], tokens, rows))
    logs = []
    for pieces in zip(*parts, strict=True):
        block, weights, log_total = pieces[0]
        logs.append(log_total)
        if minus is not None:
            weights = weights - pieces[1][1]
        weights[:, :sink] = 0
        place = (
            slice(block.start // inside, -(-block.stop // inside)),
            slice(-(-weights.shape[1] // size)),
        )
        total[place] = _in_blocks(np.add, weights, inside, size)
        high[place] = _in_blocks(np.maximum, weights, inside, size)
        if minus is not None:
            low[place] = _in_blocks(np.minimum, weights, inside, size)
    strongest = np.where(high >= -low, high, low)
    return strongest, total / _possible(len(key), size, sink, every), np.concatenate(logs)


def _in_blocks(combine: np.ufunc, weights: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Blocks of rows × columns combined; the last ones may be smaller (0 changes none)."""
    if rows == columns == 1:
        return weights
    for size in (rows, columns):  # first over rows, then the other way round
        short = -len(weights) % size
        if short:
            weights = np.concatenate([weights, np.zeros((short, weights.shape[1]), np.float32)])
        weights = reduce(combine, (weights[place::size] for place in range(size)))
        weights = np.ascontiguousarray(weights.T)
    return weights


@lru_cache(maxsize=8)
def _possible(tokens: int, size: int, sink: int, every: int) -> np.ndarray:
    """How many weights of each block there are, [block, block]; 1 where none."""
    looked_at = np.arange(0, tokens, every)
    edges = np.arange(0, tokens, size)
    until = np.minimum(looked_at[:, None] + 1, edges + size)
    counts = np.maximum(0, until - np.maximum(edges, sink))  # [row, block]
    starts = np.unique(looked_at // size, return_index=True)[1]
    return np.maximum(1, np.add.reduceat(counts, starts, 0)).astype(np.float32)


def thumbnails(
    recorded: Recorded,
    layer: int,
    heads: Iterable[int],
    how: str,
    sink: int,
    other: Recorded | None = None,
    shared: int | None = None,
) -> np.ndarray:
    """Small maps of some heads of a layer for the page: [head, cell] of the lower triangle.

    A byte is 255 √weight; of a difference with `other`, over the `shared` first tokens, a signed
    byte is ±127 √|difference|.

    Parameters
    ----------
    how
        "max" or "mean" of each block.
    """
    tokens = recorded.num_tokens if shared is None else shared
    size, every = thumbnail_block(tokens)
    cells = np.tri(-(-tokens // size), dtype=bool)
    maps = []
    for head in heads:
        query, key = recorded.head(layer, head)
        minus = None
        if other is not None:
            minus = tuple(array[:tokens] for array in other.head(layer, head))
        strongest, mean, _ = aggregated(query[:tokens], key[:tokens], size, sink, minus, every)
        values = (strongest if how == "max" else mean)[cells]
        root = np.sqrt(np.abs(values))
        maps.append(
            np.round(root * 255) if minus is None else np.round(root * 127) * np.sign(values)
        )
    return np.stack(maps).astype(np.uint8 if other is None else np.int8)
