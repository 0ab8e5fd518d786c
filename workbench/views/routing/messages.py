"""What the page of a routing view is told; see `view.js` for the arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.views.figures import expert_colours
from workbench.views.routing.numbers import Routing
from workbench.views.shared.widget import Answer
from workbench.wording import titled

BLOCK = 256  # tokens whose probabilities are sent together
PAGE_BYTES = 8_000_000  # of details that a static page takes along


def everything(routing: Routing, error: str) -> Answer:
    """Choices, surprisal and colours of all tokens."""
    colours = np.round(expert_colours(routing.experts, routing.groups) * 255).astype(np.uint8)
    unknown = np.full((routing.layers, routing.experts), np.nan, dtype=np.float32)
    scales = [unknown if d.router_scale is None else d.router_scale for d in routing.documents]
    content = {
        "kind": "routing",
        "layers": routing.layers,
        "slots": routing.slots,
        "experts": routing.experts,
        "groups": routing.groups,
        "grouped": routing.grouped,
        "obeyed_groups": routing.obeyed_groups,
        "block": BLOCK,
        "documents": [
            {
                "label": document.label,
                "model": titled(document.model_name),
                "pieces": list(document.pieces),
                "spans": [dict(span) for span in document.spans],
                "prompt": document.prompt_length,
            }
            for document in routing.documents
        ],
        "missing": routing.missing(),
        "error": error,
    }
    return content, [
        packed(routing, routing.chosen),
        routing.surprisal_bits().astype(np.float32).tobytes(),
        colours.tobytes(),
        np.concatenate(scales).astype(np.float32).tobytes(),  # [document * layer, expert]
    ]


def layer(routing: Routing, number: int) -> Answer:
    """Weights, entropies and margins of a layer; what is not there is empty."""
    probability, weights = routing.probabilities(number), routing.weights(number)
    buffers = [b"", b"", b""]
    if weights is not None:
        buffers[0] = weights.astype(np.float32).tobytes()
    if probability is not None:
        buffers[1] = routing.entropy(probability).astype(np.float32).tobytes()
        buffers[2] = routing.margins(number, probability).astype(np.float32).tobytes()
    return {"kind": "layer", "layer": number}, buffers


def block(routing: Routing, number: int, place: int) -> Answer:
    """Probabilities of all experts for BLOCK tokens of a layer."""
    part = routing.probabilities(number, place * BLOCK, (place + 1) * BLOCK)
    content = {"kind": "block", "layer": number, "block": place}
    return content, [b"" if part is None else part.astype(np.float32).tobytes()]


def questions(routing: Routing, first_layer: int) -> Sequence[dict[str, Any]]:
    """All that the page could ask; `first_layer` first, as far as PAGE_BYTES goes."""
    blocks = range(-(-routing.num_tokens // BLOCK))
    bytes_of_layer = 4 * routing.num_tokens * (2 * routing.slots + 1 + routing.experts)
    layers = sorted(range(routing.layers), key=lambda layer: (layer != first_layer, layer))
    held = layers[: max(1, PAGE_BYTES // max(1, bytes_of_layer))]
    return [
        {"kind": "want"},
        *({"kind": "layer", "layer": layer} for layer in held),
        *({"kind": "block", "layer": layer, "block": block} for layer in held for block in blocks),
    ]


def packed(routing: Routing, chosen: np.ndarray) -> bytes:
    """Choices for the page: two winners a byte where 4 bits hold a group, else 16 bits each."""
    size = routing.experts // routing.groups
    if not routing.grouped or size > 16:
        return np.ascontiguousarray(chosen, dtype=np.uint16).tobytes()
    place = (chosen.astype(np.uint8) % size).ravel()
    place = np.append(place, np.zeros(len(place) % 2, dtype=np.uint8))
    return (place[0::2] | place[1::2] << 4).tobytes()
