"""The queries and keys of a text, as the attention view reads them: of a trace, or growing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.errors import TraceError
from workbench.traces.trace import Trace, attention_blocks
from workbench.wording import titled

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
            If it is no trace, or holds no queries and keys.
        """
        if not isinstance(trace, Trace):
            raise TraceError(
                f"expected a Trace, for example pangu.trace(…); got {type(trace).__name__}."
            )
        if not trace.attention_layers:
            raise TraceError(
                f"the trace of {trace.model_name} was recorded with attention=None; trace again with "
                'attention="all".'
            )
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
