"""Hooks that record what a model does while it runs.

Plain forward hooks on modules that are there anyway; the model keeps its fused attention.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from workbench.arguments import whole_number
from workbench.errors import TraceError


@dataclass
class Recording:
    """Tensors as they came, [token, …] each, in lists over forward passes, by (name, layer)."""

    parts: dict[tuple[str, int], list[torch.Tensor]] = field(
        default_factory=lambda: defaultdict(list)
    )
    router_scale: dict[int, list[float]] = field(default_factory=dict)  # by layer

    def add(self, name: str, layer: int, tensor: torch.Tensor) -> None:
        """Keep one tensor whose first axis is the token."""
        self.parts[name, layer].append(tensor)

    def joined(self, name: str, layer: int, first: int = 0) -> torch.Tensor:
        """[token, …], forward passes joined, from the `first` one on."""
        parts = self.parts[name, layer][first:]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def stacked(self, name: str, layers: Sequence[int], first: int = 0) -> torch.Tensor:
        """[layer, token, …] on the CPU, of the forward passes from the `first` one on."""
        return torch.stack([self.joined(name, layer, first).cpu() for layer in layers])

    def first(self, passes: int) -> Recording:
        """What the first so many forward passes left, for another one to go on with."""
        parts = {key: list(tensors[:passes]) for key, tensors in self.parts.items()}
        return Recording(defaultdict(list, parts), dict(self.router_scale))

    def cut(self, passes: int) -> None:
        """Forget what came after the first so many forward passes."""
        for tensors in self.parts.values():
            del tensors[passes:]

    def nbytes(self, tokens: int) -> int:
        """What a recording of so many tokens takes, reckoned from its first forward pass."""
        first = [tensors[0] for tensors in self.parts.values() if tensors]
        return sum(tensor.nbytes // len(tensor) for tensor in first) * tokens

    def require_tokens(self, count: int) -> None:
        """Refuse a recording in which some module saw another number of tokens.

        Raises
        ------
        TraceError
            If something else ran the model, or a part of it, in between.
        """
        for (name, layer), parts in self.parts.items():
            if (found := sum(map(len, parts))) != count:
                raise TraceError(
                    f"{name} of layer {layer} was recorded for {found} tokens and not for {count}: "
                    "something else ran this model during the trace; trace again without it."
                )


@contextmanager
def recording(
    model: nn.Module,
    attention_layers: Sequence[int],
    progress: bool = False,
    record: Recording | None = None,
) -> Iterator[Recording]:
    """Record every forward pass of a batch of one inside the block; the hooks go with it.

    Only passes of the thread that records: a generation that runs in another one (a Playground, for
    example) is not seen. With `progress`, a bar counts the layers of a pass that takes more than two
    seconds. With `record`, that one goes on.
    """
    record = Recording() if record is None else record
    handles, thread = [], threading.get_ident()
    bar = tqdm(total=len(model.model.layers), desc="tracing", unit="layer", delay=2, leave=False, disable=not progress)  # fmt: skip

    def listen(module: nn.Module, hook: Callable[[Any, Any], None]) -> None:
        def heard(_module: nn.Module, inputs: Any, output: Any) -> None:
            if threading.get_ident() == thread:
                hook(inputs, output)

        handles.append(module.register_forward_hook(heard))

    def on_rotation(_inputs: Any, output: Any) -> None:
        for name, tensor in zip(("cosine", "sine"), output, strict=True):
            record.add(name, 0, tensor[0])  # [token, head_dim]

    def on_projection(name: str, layer: int, _inputs: Any, output: Any) -> None:
        record.add(name, layer, output[0])  # [token, head * head_dim]; rotated when all is done

    def on_router(layer: int, inputs: Any, output: Any) -> None:
        if layer not in record.router_scale:  # here, while it is in memory for sure
            record.router_scale[layer] = inputs[1][0].float().tolist()
        for name, tensor in zip(
            ("router_logits", "routing_weights", "selected_experts"), output, strict=True
        ):
            record.add(name, layer, tensor)

    def on_norm(name: str, layer: int, _inputs: Any, output: Any) -> None:
        record.add(name, layer, torch.linalg.vector_norm(output, dim=-1, dtype=torch.float32))

    try:
        listen(model.model.rotary_emb, on_rotation)
        listen(model.model.norm, lambda _, output: record.add("hidden", 0, output[0]))
        for index, layer in enumerate(model.model.layers):
            if progress:
                listen(layer, lambda *_: bar.update())
            if index in attention_layers:
                listen(layer.self_attn.q_proj, partial(on_projection, "query", index))
                listen(layer.self_attn.k_proj, partial(on_projection, "key", index))
            if hasattr(layer.mlp, "experts"):
                listen(layer.mlp.gate, partial(on_router, index))
                listen(layer.mlp.experts, partial(on_norm, "routed_norm", index))
                listen(layer.mlp.shared_expert, partial(on_norm, "shared_norm", index))
        yield record
    finally:
        for handle in handles:
            handle.remove()
        bar.close()


def attention_layers(attention: str | Sequence[int] | None, num_layers: int) -> list[int]:
    """The layers whose queries and keys are kept: "all", a list of numbers, or None for none."""
    if attention is None:
        return []
    if isinstance(attention, str) and attention == "all":
        return list(range(num_layers))
    if isinstance(attention, str) or not isinstance(attention, Iterable):
        raise TraceError(f'attention is {attention!r}; expected "all", a list of layers, or None.')
    wanted = sorted(
        {whole_number("a layer", layer, TraceError, "a whole number") for layer in attention}
    )
    if outside := [layer for layer in wanted if not 0 <= layer < num_layers]:
        raise TraceError(
            f"there is no layer {outside[0]}; the model has layers 0 to {num_layers - 1}."
        )
    return wanted
