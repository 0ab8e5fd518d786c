"""Checkpoints that msmodelslim quantized for Ascend: how every linear module is stored.

A description beside the weights maps every tensor's name to a type such as "FLOAT" or "W8A16".
The layout is that of msmodelslim's documentation ("AscendV1" and the traditional format) and of
its savers; `workbench.linear.ascend_linear` does the arithmetic. The types of a linear module [out, in]:

| type | tensors |
|---|---|
| W8A16, W8A8_DYNAMIC, W8A8_MIX | weight int8 [out, in]; weight_scale, weight_offset [out], [out, 1] or [out, groups] |
| W8A8 (static) | weight int8 [out, in]; deq_scale, quant_bias [out]; input_scale, input_offset [1] |
| W4A16 | as W8A16; weight one value a byte [out, in], or two a byte [out, in/2] or [out/2, in] |

Only weights are taken: what a file holds to round activations is checked or left, never applied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.checkpoints.shards import TensorInfo, read_json
from workbench.errors import CheckpointError

BITS = {"W8A16": 8, "W8A8_DYNAMIC": 8, "W8A8_MIX": 8, "W8A8": 8, "W4A16": 4}
FLOATS = ("F32", "F16", "BF16")
# What engines write into config.json beside the model's own keys.
CONFIG_KEYS = frozenset(
    "quantize moe_quantize mla_quantize mtp_quantize quantization quantization_config".split()
)
LINEAR = re.compile(r"(.+(?:_proj|\.mlp\.gate|lm_head)|lm_head)\.weight")
SMOOTHED = re.compile(r"(.+norm)\.module\.(weight|bias)")
# Scales of the key-value cache, of attention and of communication: they round activations.
OF_ACTIVATIONS = re.compile(r"kv_cache_(scale|offset)$|\.(gather|reduce)_scale(\.\d+)?$")
ACTIVATION_TYPES = ("C8", "FAQuant")
TRANSFORMS = re.compile(r"rotation|left_trans|right_trans|clip_ratio|mul_scale|\.div\.")
ALSO_STATIC = ("input_scale", "input_offset", "quant_bias", "deq_scale")


def read_description(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tensor name to type, or None where the checkpoint was not quantized by msmodelslim.

    The description is a file of its own, or stands in `quantization_config` of config.json.

    Raises
    ------
    CheckpointError
        If there are several descriptions, or one is no JSON object.
    """
    files = sorted(folder.glob("quant_model_descr*.json"))
    if len(files) > 1:
        raise CheckpointError(
            f"{folder} holds {len(files)} descriptions of how it is quantized "
            f"({', '.join(file.name for file in files)}); expected one. Keep the one that belongs "
            "to the weights."
        )
    if files:
        return read_json(files[0])
    inside = config.get("quantization_config")
    return inside if isinstance(inside, dict) and "model_quant_type" in inside else None


def arranged(
    tensors: Mapping[str, TensorInfo], description: Mapping[str, Any], folder: Path
) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The tensors that the weights consist of, and the type of every quantized linear module.

    Norms that older versions store as "norm.module.weight" get their plain names; scales that
    round only activations are left out.

    Raises
    ------
    CheckpointError
        For a type that is not supported, a linear module without one, a tensor whose storage is
        not what its type says, and a norm that is stored twice, differently.
    """
    kept, types = {}, {}
    for name, info in tensors.items():
        if description.get(name) in ACTIVATION_TYPES or OF_ACTIVATIONS.search(name):
            continue
        if TRANSFORMS.search(name):
            raise CheckpointError(
                f"{name} in {folder} changes activations while the model computes (an online "
                "rotation or smoothing of msmodelslim), which is not supported. Pass a checkpoint "
                "quantized without it, or the 16-bit one."
            )
        kept[name] = info
    for name in [name for name in kept if SMOOTHED.fullmatch(name)]:
        norm, part = SMOOTHED.fullmatch(name).groups()
        plain, info = f"{norm}.{part}", kept.pop(name)
        if plain in kept and not _same(plain, kept[plain], info):
            raise CheckpointError(
                f"{folder} holds two different norms, {name} (smoothed) and {plain}, and does not "
                "say which linear modules take which. Quantize it again with a current "
                "msmodelslim, which writes one, or pass the 16-bit checkpoint."
            )
        kept[plain] = info
    for name, info in kept.items():
        linear = LINEAR.fullmatch(name)
        kind = description.get(name) if linear else "FLOAT"
        if kind is None:
            raise CheckpointError(
                f"the description in {folder} does not say how {name} is stored; expected FLOAT, "
                f"{' or '.join(BITS)}. It belongs to other weights, or is incomplete: copy it again."
            )
        if not isinstance(kind, str) or (kind != "FLOAT" and kind not in BITS):
            raise CheckpointError(
                f"{name} in {folder} is quantized as {kind!r}, which is not supported. Supported "
                f"are FLOAT, {', '.join(BITS)}. Pass a checkpoint of such a type, or the 16-bit one."
            )
        if linear and kind != "FLOAT":
            types[linear[1]] = kind
        elif name.endswith(".weight") and info.dtype not in FLOATS:
            raise CheckpointError(
                f"{name} in {folder} is described as FLOAT and stored as {info.dtype}; expected "
                f"{' or '.join(FLOATS)}. The description belongs to other weights: copy it again."
            )
    return kept, types


def check_linear(
    tensors: Mapping[str, TensorInfo], module: str, kind: str, shape: tuple[int, ...], where: Path
) -> set[str]:
    """Check one quantized linear module's tensors; returns their names, but for a bias.

    Parameters
    ----------
    shape
        (out, in) by the configuration.

    Raises
    ------
    CheckpointError
        If one is missing, or has another type or shape than the layout says.
    """
    rows, columns = shape
    one = {(1,), ()}
    weights = {(rows, columns)}
    if kind == "W4A16":  # two values a byte, along either axis
        weights |= {(rows, columns // 2)} if columns % 2 == 0 else set()
        weights |= {(rows // 2, columns)} if rows % 2 == 0 else set()
    layout: dict[str, tuple[tuple[str, ...], set[tuple[int, ...]]]] = {"weight": (("I8",), weights)}
    if kind == "W8A8":
        layout |= {
            "deq_scale": (("F32", "I64"), {(rows,), (rows, 1)}),
            "quant_bias": (("I32",), {(rows,), (rows, 1)}),
            "input_scale": (FLOATS, one),
            "input_offset": ((*FLOATS, "I8"), one),
        }
    else:
        groups = {(rows,), (rows, 1)} | _grouped(tensors, module, shape)
        layout |= {"weight_scale": (FLOATS, groups), "weight_offset": (FLOATS, groups)}
    for part, (dtypes, shapes) in layout.items():
        info = tensors.get(f"{module}.{part}")
        if info is None:
            raise CheckpointError(
                f"{module}.{part} is missing from {where}: a linear module of type {kind} needs "
                f"{', '.join(layout)}. Download the checkpoint again."
            )
        if info.dtype not in dtypes or info.shape not in shapes:
            expected = " or ".join(str(list(wanted)) for wanted in sorted(shapes))
            raise CheckpointError(
                f"{module}.{part} is {info.dtype} {list(info.shape)}; a linear module "
                f"{list(shape)} of type {kind} has {' or '.join(dtypes)} {expected} there. The "
                "description or config.json belongs to other weights."
            )
    if kind == "W8A8":  # some versions write these too; the static arithmetic has no use for them
        unused = ("weight_scale", "weight_offset")
    else:
        unused = ALSO_STATIC if kind == "W8A8_MIX" else ()
        if tensors[f"{module}.weight_scale"].shape != tensors[f"{module}.weight_offset"].shape:
            raise CheckpointError(
                f"{module}.weight_scale and .weight_offset in {where} differ in shape; expected "
                "one offset for every scale. Download the checkpoint again."
            )
    return {f"{module}.{part}" for part in (*layout, *unused)} & tensors.keys()


def added_biases(
    tensors: Mapping[str, TensorInfo], expected: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Biases of norms and linear modules that the plain model does not have, with their shapes.

    Smoothing outliers away shifts what a norm gives, and the linear modules behind it take the
    shift back.
    """
    names = [name for name in tensors if name.endswith(".bias") and name not in expected]
    weights = {name: name.removesuffix("bias") + "weight" for name in names}
    return {
        name: (expected[weight][0],)
        for name, weight in weights.items()
        if weight in expected and (LINEAR.fullmatch(weight) or weight.endswith("norm.weight"))
    }


def _grouped(
    tensors: Mapping[str, TensorInfo], module: str, shape: tuple[int, ...]
) -> set[tuple[int, ...]]:
    """The scales' own shape, if it divides the columns into equal groups."""
    info = tensors.get(f"{module}.weight_scale")
    if info is None or len(info.shape) != 2 or not info.shape[1] or shape[1] % info.shape[1]:
        return set()
    return {(shape[0], info.shape[1])}


def _same(name: str, one: TensorInfo, other: TensorInfo) -> bool:
    from workbench.checkpoints.reading import read_tensor

    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return bool((read_tensor(name, one) == read_tensor(name, other)).all())
