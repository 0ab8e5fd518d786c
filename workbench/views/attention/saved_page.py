"""Which heads a page without a kernel takes along: the questions that it has answers for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workbench.views.attention.limits import some_of
from workbench.views.attention.messages import head_bytes, heads_of_a_message
from workbench.views.attention.selection import Selection

PAGE_BYTES = 8_000_000  # of heads that a page takes along

Place = tuple[int, int]  # layer and head


def usual_heads(selection: Selection) -> list[Place]:
    """All heads, the selected one and the subtracted one first, as far as PAGE_BYTES goes."""
    recorded = selection.recorded
    if not recorded.num_tokens:
        return []
    held = [(layer, head) for layer in recorded.layers for head in range(recorded.heads)]
    near = {(selection.layer, selection.head): 0}
    if selection.compare == "head":
        near[selection.other_layer, selection.other_head] = 1
    held.sort(key=lambda place: (near.get(place, 2), place[0] != selection.layer, place))
    most = PAGE_BYTES // (head_bytes(selection) * (1 if selection.other is None else 2))
    return held[: max(len(near), most)]


def chosen_heads(
    selection: Selection, layers: str | Iterable[int] | None, heads: str | Iterable[int] | None
) -> tuple[list[Place], dict[str, int]]:
    """Some layers' heads, and {layer, head} if the page is to open on another than the selected one.

    Raises
    ------
    TraceError
        For a layer or head that was not recorded.
    """
    recorded = selection.recorded
    layers = some_of("layer", "all" if layers is None else layers, recorded.layers)
    heads = some_of("head", "all" if heads is None else heads, range(recorded.heads))
    held, opening = [(layer, head) for layer in layers for head in heads], {}
    if held and (selection.layer, selection.head) not in held:
        near = min(
            held, key=lambda place: (place[0] != selection.layer, place[1] != selection.head)
        )
        opening = dict(zip(("layer", "head"), near, strict=True))
    subtracted = (selection.other_layer, selection.other_head)
    if selection.compare == "head" and subtracted not in held:
        held.append(subtracted)
    return held, opening


def questions(selection: Selection, held: list[Place]) -> list[dict[str, Any]]:
    """What a page asks that shows these heads large, and all heads small."""
    recorded = selection.recorded
    sides = [0] if selection.other is None else [0, 1]
    asked: list[dict[str, Any]] = [{"kind": "want"}]
    for layer, head in held:
        for side in sides:
            asked.append({"kind": "head", "trace": side, "layer": layer, "head": head})
    if recorded.num_tokens:
        for layer in recorded.layers:
            for head in range(0, recorded.heads, heads_of_a_message(recorded)):
                place = {"layer": layer, "head": head, "blocks": selection.blocks}
                place |= {"sink": selection.sink, "difference": selection.compare == "trace"}
                asked.append({"kind": "thumbnails", **place})
    return asked
