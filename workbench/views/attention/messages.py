"""What the page of an attention view is told: the text, queries and keys of a head, small maps.

`messages.js` beside it describes every message. Numbers go as bytes, [token, head_dim] in half
precision where both queries and keys were recorded so, else in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.views.attention.maps import (
    BLOCKS,
    ROWS,
    aggregated,
    block_size,
    log_totals,
    thumbnail_block,
    thumbnails,
)
from workbench.views.attention.recorded import Recorded
from workbench.views.attention.selection import Selection
from workbench.views.shared.widget import Answer

EXACT = 128  # tokens up to which the page works out a whole map itself
WORK = 2.5e6  # weights worked out for one message of small maps: some tens of milliseconds


def text(selection: Selection, error: str) -> dict[str, Any]:
    """The text and the model's shape; `error` is what went wrong, or ""."""
    recorded = selection.recorded
    return {
        "kind": "attention",
        "model": selection.names[0],
        "other": selection.names[1],
        "shared": selection.shared or 0,
        "pieces": recorded.pieces,
        "spans": recorded.spans,
        "turns": recorded.turns,
        "layers": recorded.layers,
        "heads": recorded.heads,
        "key_heads": recorded.key_heads,
        "error": error,
    }


def more(recorded: Recorded, layer: int, head: int, start: int, span: str) -> Answer:
    """The tokens from `start` on, with their queries and keys in one head."""
    query, key = recorded.head(layer, head, start)
    content = {
        "kind": "more",
        "pieces": recorded.pieces[start:],
        "span": span,
        "turns": recorded.turns,
        "layer": layer,
        "head": head,
        "start": start,
        "half": _are_half(query, key),
    }
    return content, [*_packed(query, key[start:]), log_totals(query, key).tobytes()]


def head(question: dict[str, Any], selection: Selection) -> Answer:
    """Queries, keys and rows' totals of a head, and of a longer text its picture in blocks."""
    layer, number, sink = int(question["layer"]), int(question["head"]), selection.sink
    recorded = selection.other if question["trace"] else selection.recorded
    assert recorded is not None  # the page knows whether there is another
    query, key = recorded.head(layer, number)
    if recorded is selection.other:
        query, key = query[: selection.shared], key[: selection.shared]
    tokens = len(query)
    content = {**question, "tokens": tokens, "half": _are_half(query, key)}
    if tokens <= EXACT:
        return content, [*_packed(query, key), log_totals(query, key).tobytes()]
    size = block_size(tokens, BLOCKS)
    strongest, mean, log_total = aggregated(query, key, size, sink)
    cells = np.tri(len(mean), dtype=bool)
    maps = [strongest] if size == 1 else [strongest, mean]
    return {**content, "size": size, "sink": sink}, [
        *_packed(query, key),
        log_total.tobytes(),
        *(values[cells].astype(np.float16).tobytes() for values in maps),
    ]


def small_maps(question: dict[str, Any], selection: Selection) -> Answer:
    """Small maps of some heads of a layer, from one head on."""
    layer, number, sink = (int(question[name]) for name in ("layer", "head", "sink"))
    recorded, other = selection.recorded, selection.other if question["difference"] else None
    tokens = recorded.num_tokens if other is None else selection.shared
    size, every = thumbnail_block(tokens)
    heads = range(number, min(number + heads_of_a_message(recorded), recorded.heads))
    maps = thumbnails(recorded, layer, heads, question["blocks"], sink, other, tokens)
    content = {**question, "heads": len(heads), "tokens": tokens, "size": size, "every": every}
    return content, [maps.tobytes()]


def heads_of_a_message(recorded: Recorded) -> int:
    """Small maps that go together."""
    tokens = recorded.num_tokens
    return max(1, int(WORK / max(1, min(tokens, ROWS) * tokens)))


def head_bytes(selection: Selection) -> int:
    """What the selected head takes in a message, about."""
    recorded = selection.recorded
    tokens = recorded.num_tokens
    query, key = recorded.head(selection.layer, selection.head)
    size = query.nbytes + key.nbytes + 4 * tokens
    if tokens > EXACT:
        size += min(tokens, BLOCKS) ** 2 * (1 if tokens <= BLOCKS else 2)
    return size


def _are_half(query: np.ndarray, key: np.ndarray) -> bool:
    return query.dtype == key.dtype == np.float16


def _packed(query: np.ndarray, key: np.ndarray) -> list[bytes]:
    kind = np.float16 if _are_half(query, key) else np.float32
    return [np.ascontiguousarray(array, dtype=kind).tobytes() for array in (query, key)]
