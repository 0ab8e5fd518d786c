"""Queries and keys of a text, and the small maps that the attention view draws of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from workbench.errors import TraceError
from workbench.traces.trace import Trace, attention_blocks
from workbench.wording import titled

THUMBNAIL = 48  # blocks along a side of a thumbnail, at most
BLOCKS = 512  # blocks along a side of a large map, at most
EXACT = 128  # tokens up to which the page works out a whole map itself
ROWS = 1024  # query tokens that a thumbnail looks at, at most
WORK = 2.5e6  # weights worked out for one message of thumbnails: some tens of milliseconds
TURN = "[unused9]"  # opens a turn of Pangu's conversations


class Recorded:
    """One text whose attention was recorded; a live one grows.

    Attributes
    ----------
    name : str
        Of the model.
    receipt : dict
        How its weights were stored, as far as it is known.
    layers : list of int
        Those that were recorded.
    heads, key_heads : int
        Query heads, and the key–value heads they share, of a layer.
    pieces : list of str
    spans : list of dict
        {"kind", "start", "end"}.
    turns : list of int
        Tokens that open a turn of a conversation.
    """

    def __init__(self, name: str, layers: Sequence[int], heads: int, key_heads: int) -> None:
        self.name, self.layers, self.heads, self.key_heads = name, list(layers), heads, key_heads
        self.receipt: Mapping[str, Any] = {}
        self.pieces: list[str] = []
        self.spans: list[dict[str, Any]] = []
        self.turns: list[int] = []
        self.token_ids = np.empty(0, dtype=np.int32)
        self._parts: list[Mapping[str, np.ndarray]] = []

    @classmethod
    def of(cls, trace: Trace) -> Recorded:
        """What a trace recorded.

        Raises
        ------
        TraceError
            If it holds no queries and keys.
        """
        recorded = cls(
            trace.model_name, trace.attention_layers, trace.num_heads, trace.num_key_value_heads
        )
        recorded._parts = [{"query": trace.query, "key": trace.key}]
        recorded.pieces, recorded.spans = trace.pieces, trace.spans
        recorded.receipt = trace.meta.get("receipt", {})
        special = set(trace.meta["special_ids"])
        recorded.token_ids = np.asarray(trace.token_ids)
        recorded.turns = [
            place
            for place, (token, piece) in enumerate(
                zip(recorded.token_ids.tolist(), recorded.pieces, strict=True)
            )
            if token in special and piece == TURN
        ]
        return recorded

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.pieces)

    @property
    def group_size(self) -> int:
        """Query heads that share one key–value head."""
        return self.heads // self.key_heads

    def append(self, pieces: Sequence[str], arrays: Mapping[str, np.ndarray], span: str) -> None:
        """Add tokens: query [layer, new token, head, head_dim] and key [… kv_head …]."""
        start, new = self.num_tokens, len(pieces)
        for name, heads in (("query", self.heads), ("key", self.key_heads)):
            found = np.shape(arrays[name])
            if len(found) != 4 or found[:3] != (len(self.layers), new, heads):
                raise TraceError(
                    f"{name} is {list(found)}; expected [layer, new token, head, head_dim] = "
                    f"[{len(self.layers)}, {new}, {heads}, head_dim]."
                )
        self._parts.append({name: arrays[name] for name in ("query", "key")})
        if len(self._parts) > 64:  # few pieces to join when a head is looked at
            whole = {
                n: np.concatenate([part[n] for part in self._parts], 1) for n in self._parts[0]
            }
            self._parts = [whole]
        self.turns += [start + place for place, piece in enumerate(pieces) if piece == TURN]
        self.pieces = [*self.pieces, *pieces]
        if self.spans and self.spans[-1]["kind"] == span:
            self.spans[-1]["end"] = start + new
        else:
            self.spans.append({"kind": span, "start": start, "end": start + new})

    def head(self, layer: int, head: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Query [token, head_dim] from token `start` on, and key [token, head_dim] of all tokens."""
        index, key_head = self.layers.index(layer), head // self.group_size
        parts = list(self._parts)  # another thread may append
        query = [part["query"][index, :, head] for part in parts]
        key = [part["key"][index, :, key_head] for part in parts]
        return np.concatenate(query)[start:], np.concatenate(key)

    def rows(self, layer: int, head: int, rows: np.ndarray) -> np.ndarray:
        """Attention of some query tokens, [row, token] float32."""
        query, key = self.head(layer, head)
        weights = np.zeros((len(rows), len(key)), dtype=np.float32)
        for block, part, _ in attention_blocks(query[rows], key, rows):
            weights[block, : part.shape[1]] = part
        return weights


def told_apart(first: Recorded, second: Recorded) -> tuple[str, str]:
    """Names for both: of one model with the bits, and if need be the kinds, of its weights."""
    name, another = titled(first.name), titled(second.name)
    if first.name != second.name:
        return (name, another) if name != another else (first.name, second.name)
    for precision in (_bits, _kinds):
        one, other = precision(first.receipt), precision(second.receipt)
        if one and other and one != other:
            return f"{name} in {one}", f"{name} in {other}"
    return name, f"{name}, the other trace"


def _bits(receipt: Mapping[str, Any]) -> str:
    return f"{receipt['bits']} bit" if "bits" in receipt else ""


def _kinds(receipt: Mapping[str, Any]) -> str:
    """Such as "nf4 + bf16"."""
    stored = receipt.get("stored", {}).values()
    return " + ".join(dict.fromkeys(kind for kinds in stored for kind in kinds.split(" + ")))


def same_beginning(first: Recorded, second: Recorded) -> int:
    """Tokens at the beginning that two recordings of the same heads share.

    Raises
    ------
    TraceError
        If there are none, or layers or heads differ.
    """
    for what in ("layers", "heads", "key_heads"):
        one, other = getattr(first, what), getattr(second, what)
        if one != other:
            raise TraceError(
                f"{first.name} has {what} {one} and {second.name} has {other}; only traces of the "
                "same layers and heads can be compared."
            )
    size = min(len(first.token_ids), len(second.token_ids))
    differ = np.flatnonzero(first.token_ids[:size] != second.token_ids[:size])
    shared = int(differ[0]) if len(differ) else size
    if shared < 2:
        raise TraceError(
            "the traces do not begin with the same tokens; compare traces of one text, for "
            "example in two precisions."
        )
    return shared


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
