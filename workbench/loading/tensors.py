"""The tensors that a configuration asks for: names, shapes, and the part of the model they belong to."""

from __future__ import annotations

from workbench.checkpoints.ascend import added_biases
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.models import CLASSES
from workbench.models.empty import empty_modules


def component_of(name: str) -> str:
    """The part of the model that a tensor belongs to, by its name."""
    for mark, component in (
        (".mlp.experts.", "routed experts"),
        (".mlp.shared_expert.", "shared experts"),
        (".mlp.gate.", "router"),
        (".mlp.router_scale", "router"),
        (".mlp.", "feed-forward"),
        (".self_attn.", "attention"),
        ("embed_tokens", "embeddings"),
        ("lm_head", "head"),
    ):
        if mark in name:
            return component
    return "norms"


def is_quantizable(name: str) -> bool:
    """Whether a tensor is the weight of a linear module that 4 and 8 bit quantize."""
    return name.endswith("_proj.weight")


def expected_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the configuration asks for, and of biases an Ascend file adds."""
    shapes = model_shapes(checkpoint)
    if not checkpoint.linear_types:
        return shapes
    return shapes | added_biases(checkpoint.tensors, shapes)


def model_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that the configuration asks for."""
    with empty_modules():
        model = CLASSES[checkpoint.architecture](checkpoint.config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if checkpoint.config.tie_word_embeddings:
        shapes.pop("lm_head.weight")
    return shapes
