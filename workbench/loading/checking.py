"""Whether a plan can be carried out: it fits, and the files hold the tensors that it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch

from workbench.checkpoints.ascend import check_linear
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.reading import read_rows
from workbench.checkpoints.shards import TensorInfo
from workbench.errors import CheckpointError
from workbench.linear.float32_linear import BLOCK
from workbench.loading.plan import Plan, require_fit
from workbench.loading.tensors import is_quantizable
from workbench.loading.units import require_least, with_least_bytes

# What bitsandbytes stores beside a weight.
QUANTIZED_PART = re.compile(
    r"(.+)\.(?:weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state\.bitsandbytes__\w+)|SCB|weight_format)"
)


def checked(plan: Plan) -> Plan:
    """The plan of a checkpoint that can be loaded so, its weights on this machine.

    What would be refused is not downloaded.

    Raises
    ------
    QuantizationError
        If it does not fit.
    CheckpointError
        If the files do not hold what the configuration asks for.
    """
    require_fit(plan)
    check_tensors(plan)
    if not plan.checkpoint.remote:
        return plan
    plan = with_least_bytes(plan)
    require_least(plan.least_bytes or 0, plan.memory_bytes or 0, plan.name)
    plan = replace(plan, checkpoint=plan.checkpoint.fetched())
    check_tensors(plan)  # once more, for what only whole files tell
    return plan


def check_tensors(plan: Plan) -> None:
    """Compare names, shapes and parts with the model's before anything is read.

    Raises
    ------
    CheckpointError
        For a missing, additional or misshapen tensor, and for a part of a quantized weight that
        is missing.
    """
    checkpoint = plan.checkpoint
    expected, found = dict(plan.shapes), dict(checkpoint.tensors)
    if checkpoint.config.tie_word_embeddings:
        _check_tied_head(checkpoint, found.pop("lm_head.weight", None))
    for name in list(found):
        if checkpoint.is_bitsandbytes and _is_part_of_quantized(name, expected):
            del found[name]
    _check_ascend(checkpoint, expected, found)
    if missing := sorted(expected.keys() - found.keys()):
        raise CheckpointError(
            f"{missing[0]} is missing from {checkpoint.path}{_and_more(missing)}. Expected "
            f"{len(expected):,} tensors, found {len(found):,}. Download the checkpoint again, or "
            "correct config.json if it belongs to another model."
        )
    for name, shape in expected.items():
        info = found.pop(name)
        if checkpoint.is_bitsandbytes and is_quantizable(name):
            _check_quantized(checkpoint, name, info, shape)
        elif info.shape != shape:
            raise CheckpointError(
                f"{name} has shape {list(info.shape)}, expected {list(shape)} by config.json; "
                "the two do not match."
            )
    if found:
        extra = sorted(found)
        raise CheckpointError(
            f"{extra[0]} is in {checkpoint.path} and not in the model{_and_more(extra)}. A model that "
            "needs it is not the one config.json describes; correct config.json or remove the tensor."
        )


def _check_ascend(
    checkpoint: Checkpoint, expected: dict[str, tuple[int, ...]], found: dict[str, TensorInfo]
) -> None:
    """Check the modules that Ascend's files hold quantized, and take them out of both."""
    for module, kind in checkpoint.linear_types.items():
        shape = expected.pop(f"{module}.weight", None)
        if shape is None:
            continue  # no module of this model: named as additional
        for name in check_linear(found, module, kind, shape, checkpoint.path):
            del found[name]
        if kind == "W8A8" and f"{module}.bias" not in found:
            expected.pop(f"{module}.bias", None)  # it stands in quant_bias


def _check_tied_head(checkpoint: Checkpoint, head: TensorInfo | None) -> None:
    """A head that is stored although it is tied must be the embeddings again."""
    name, own = "model.embed_tokens.weight", "lm_head.weight"
    embeddings = checkpoint.tensors.get(name)
    if checkpoint.remote or head is None or embeddings is None:
        return
    same = (head.dtype, head.shape) == (embeddings.dtype, embeddings.shape)
    pieces = [range(a, min(a + 1024, head.shape[0])) for a in range(0, head.shape[0], 1024)]
    if not same or not all(
        torch.equal(read_rows(own, head, rows), read_rows(name, embeddings, rows))
        for rows in pieces
    ):
        raise CheckpointError(
            f"{checkpoint.path} says tie_word_embeddings=true and holds a lm_head.weight that is not "
            "the embeddings; correct config.json."
        )


def _is_part_of_quantized(name: str, expected: Mapping[str, tuple[int, ...]]) -> bool:
    match = QUANTIZED_PART.fullmatch(name)
    return bool(match) and f"{match[1]}.weight" in expected and is_quantizable(f"{match[1]}.weight")


def _check_quantized(
    checkpoint: Checkpoint, name: str, info: TensorInfo, shape: tuple[int, ...]
) -> None:
    """What bitsandbytes left of a weight: its bytes, and what they mean."""
    tensors, count = checkpoint.tensors, torch.Size(shape).numel()
    wanted, size = ("I8", count) if checkpoint.stored_bits == 8 else ("U8", (count + 1) // 2)
    if info.dtype != wanted or info.nbytes != size:
        raise CheckpointError(
            f"{name} is stored as {info.dtype} with {info.nbytes:,} bytes; expected {wanted} with "
            f"{size:,} bytes for {list(shape)} in {checkpoint.stored}. Download it again, or "
            "convert it again from the 16-bit checkpoint."
        )
    if checkpoint.stored_bits == 8:
        parts = [name.removesuffix("weight") + "SCB"]
    else:
        parts = [f"{name}.absmax", f"{name}.quant_map"]
        parts.append(f"{name}.quant_state.bitsandbytes__{checkpoint.stored}")
        absmax = tensors.get(parts[0])
        if absmax and torch.Size(absmax.shape).numel() != (scales := -(-count // BLOCK)):
            raise CheckpointError(
                f"{parts[0]} has shape {list(absmax.shape)}; expected {scales:,} scales, one for "
                f"every {BLOCK} numbers of {name}, which is bitsandbytes' usual block size and the "
                "one supported here. Convert it again from the 16-bit checkpoint."
            )
        if absmax and absmax.dtype == "U8":
            parts += [f"{name}.nested_absmax", f"{name}.nested_quant_map"]
    if missing := [part for part in parts if part not in tensors]:
        raise CheckpointError(
            f"{missing[0]} is missing from {checkpoint.path}: without it {name} cannot be read. "
            "Download the checkpoint again."
        )


def _and_more(names: list[str]) -> str:
    return f", and {len(names) - 1:,} more" if len(names) > 1 else ""
