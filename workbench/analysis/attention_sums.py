"""All heads of a trace at once, block by block: how much of their attention falls on patterns.

Whole maps are never held: a block of rows of one layer's heads is worked out, summed, and dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from workbench.errors import TraceError
from workbench.traces.trace import Trace

BLOCK_BYTES = 8_000_000  # of attention and masks at one time: what a processor's cache holds
LEAST_ROWS = 32  # in a block, whatever its size: each reads all keys before it anew
IDENTITY = ("same_token", "induction")  # patterns that ask which tokens are the same
Pattern = np.ndarray | Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class AttentionSums:
    """What one trace adds; means come after sums of several.

    Attributes
    ----------
    on : dict of str to numpy.ndarray
        Attention that falls on each pattern, [layer, head, draw]; draw 0 is the text itself, the
        others, for the patterns of `IDENTITY` alone, the text shuffled.
    even : dict of str to numpy.ndarray
        The same for attention spread evenly over the token and all before it, [draw].
    rows : dict of str to numpy.ndarray
        Query tokens for which the pattern names some key, [draw].
    bits, normalised, distance, overlap : numpy.ndarray
        Sums over the `queries` query tokens, [layer, head]: entropy in bits; entropy / log2 of the
        number of tokens to attend to; mean distance to what is attended to; overlap with even
        attention.
    queries : int
        Query tokens but the first.
    floor : float
        Sum of 1 / (tokens to attend to) over these: the overlap that one attended token gives.
    """

    on: dict[str, np.ndarray]
    even: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    bits: np.ndarray
    normalised: np.ndarray
    distance: np.ndarray
    overlap: np.ndarray
    queries: int
    floor: float


def attention_sums(
    trace: Trace,
    where: np.ndarray,
    window: int,
    patterns: Mapping[str, Pattern],
    shuffles: int,
    seed: int,
    bar: tqdm,
) -> AttentionSums:
    """Sums over the query tokens of `where` [token]; `bar` counts layers × tokens."""
    ids = shuffled(np.asarray(trace.token_ids), shuffles, seed)  # [draw, token]
    layers, heads, tokens = len(trace.attention_layers), trace.num_heads, trace.num_tokens
    measured = np.zeros((4, layers, heads))
    on: dict[str, np.ndarray] = {}
    even: dict[str, np.ndarray] = {}
    rows: dict[str, np.ndarray] = {}
    columns = 5 + len(patterns) + len(IDENTITY) * shuffles
    for start, stop in blocks(tokens, 4 * (heads + columns)):
        masks = dict(block_masks(trace, ids, where, window, patterns, start, stop))
        query, key = np.arange(start, stop)[:, None], np.arange(stop)
        flat = np.concatenate(list(masks.values())).reshape(-1, (stop - start) * stop)
        flat = flat.astype(np.float32)  # [pattern and draw, row * key]
        spread = np.where(key <= query, 1 / (query + 1), 0).astype(np.float32)
        cuts = np.cumsum([len(mask) for mask in masks.values()])[:-1]
        counted = where[start:stop] & (np.arange(start, stop) > 0)
        for name, mask, sums in zip(
            masks, masks.values(), np.split(flat @ spread.ravel(), cuts), strict=True
        ):
            even[name] = even.get(name, 0) + sums.astype(float)
            rows[name] = rows.get(name, 0) + mask.any(-1).sum(-1)
        for layer in range(layers):
            weights, nats = attention_block(trace, layer, start, stop)
            sums = weights.reshape(heads, -1) @ flat.T  # [head, pattern and draw]
            for name, part in zip(masks, np.split(sums, cuts, axis=-1), strict=True):
                if name not in on:
                    on[name] = np.zeros((layers, heads, part.shape[-1]))
                on[name][layer] += part
            bits = nats[:, counted] / math.log(2)
            possible = np.log2(np.arange(start, stop) + 1)[counted]
            attended = (weights @ key.astype(np.float32))[:, counted]
            overlap = np.minimum(weights[:, counted], spread[counted]).sum((-2, -1))
            measured[:, layer] += [
                bits.sum(-1),
                (bits / possible).sum(-1),
                (np.arange(start, stop)[counted] - attended).sum(-1),
                overlap,
            ]
            bar.update(stop - start)
    used = np.flatnonzero(where)
    used = used[used > 0]
    return AttentionSums(on, even, rows, *measured, len(used), float((1 / (used + 1)).sum()))


def shuffled(ids: np.ndarray, shuffles: int, seed: int) -> np.ndarray:
    """[draw, token]: the text, then the text in random orders; the first token keeps its place.

    It stays because it is where heads rest: another token in its place would be credited with
    attention that goes to the place.
    """
    random = np.random.default_rng(seed)
    rest = np.broadcast_to(ids[1:], (shuffles, len(ids) - 1))
    drawn = random.permuted(rest, axis=-1) if rest.size else rest
    first = np.broadcast_to(ids[:1], (shuffles, len(ids[:1])))
    return np.concatenate([ids[None], np.concatenate([first, drawn], axis=-1)])


def blocks(tokens: int, bytes_per_pair: int) -> Iterator[tuple[int, int]]:
    """Rows start to stop, as many as BLOCK_BYTES holds and at least LEAST_ROWS."""
    start = 0
    while start < tokens:
        stop = min(tokens, start + max(LEAST_ROWS, BLOCK_BYTES // (bytes_per_pair * tokens)))
        yield start, stop
        start = stop


def block_masks(
    trace: Trace,
    ids: np.ndarray,
    where: np.ndarray,
    window: int,
    patterns: Mapping[str, Pattern],
    start: int,
    stop: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and mask [draw, row, key] bool of every pattern, for rows start to stop."""
    query, key = np.arange(start, stop)[:, None], np.arange(stop)
    looked = where[start:stop, None]
    causal = looked & (key <= query)
    yield "previous_token", (causal & (key == query - 1))[None]
    yield "first_token", (causal & (key == 0) & (query > 0))[None]
    yield "own_token", (causal & (key == query) & (query > 0))[None]
    yield "local", (causal & (key > query - window) & (query >= window))[None]
    same = ids[:, start:stop, None] == ids[:, None, :stop]  # [draw, row, key]
    earlier = looked & (key < query)
    yield "same_token", same & earlier
    induction = np.zeros_like(same)
    induction[:, :, 1:] = same[:, :, :-1]
    yield "induction", induction & earlier
    for name, pattern in patterns.items():
        yield name, (causal & _of_user(name, pattern, query, key, trace.num_tokens))[None]


def attention_block(
    trace: Trace, index: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Attention [head, row, key] float32 of the `index`-th recorded layer, and its entropy
    [head, row] in nats: log Z - Σ a s, where a = exp(s) / Z."""
    heads, kv_heads = trace.num_heads, trace.num_key_value_heads
    query = np.asarray(trace.query[index, start:stop], dtype=np.float32)  # [row, head, head_dim]
    key = np.asarray(trace.key[index, :stop], dtype=np.float32)  # [key, kv_head, head_dim]
    size = query.shape[-1]
    query = query.transpose(1, 0, 2).reshape(kv_heads, -1, size) / np.float32(math.sqrt(size))
    scores = (query @ key.transpose(1, 2, 0)).reshape(heads, stop - start, stop)
    future = np.arange(stop) > np.arange(start, stop)[:, None]
    scores[:, future] = -1e30  # finite, so that 0 times it is 0
    scores -= scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores)
    total = weights.sum(axis=-1, keepdims=True)
    weights /= total
    nats = np.log(total[..., 0]) - np.einsum("hrk,hrk->hr", weights, scores)
    return weights, np.maximum(nats, 0)


def _of_user(
    name: str, pattern: Pattern, query: np.ndarray, key: np.ndarray, tokens: int
) -> np.ndarray:
    if callable(pattern):
        mask, expected = (
            np.asarray(pattern(query, key)),
            np.broadcast_shapes(query.shape, key.shape),
        )
        what = "the function returned"
    else:
        mask, expected, what = np.asarray(pattern), (tokens, tokens), "it is"
    try:
        fits = mask.dtype == bool and np.broadcast_shapes(mask.shape, expected) == expected
    except ValueError:
        fits = False
    if not fits or (not callable(pattern) and mask.shape != expected):
        raise TraceError(
            f"pattern {name!r}: {what} {mask.dtype} of shape {mask.shape}; expected booleans "
            f"[query, key] of shape {expected}. A function gets the numbers of the query tokens "
            "[row, 1] and of the key tokens [key], for example lambda query, key: key == query - 2."
        )
    if not callable(pattern):
        mask = mask[query[0, 0] : query[-1, 0] + 1, : len(key)]
    return np.broadcast_to(mask, np.broadcast_shapes(query.shape, key.shape))
