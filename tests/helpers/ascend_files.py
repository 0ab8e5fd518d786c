"""Writes small checkpoints in msmodelslim's layout with NumPy, from the layout's documentation.

Nothing of the workbench's own reader is used, so that the two can disagree.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from tests.helpers.tiny import make_tiny_checkpoint

# None of them square, a multiple of 64, or a power of two.
MOE_SIZES = {
    "hidden_size": 120,
    "moe_intermediate_size": 40,
    "shared_expert_intermediate_size": 72,
    "num_hidden_layers": 2,
}
DENSE_SIZES = {"hidden_size": 120, "intermediate_size": 88, "num_hidden_layers": 2}


@dataclass(frozen=True)
class Scheme:
    """How one linear module is written."""

    kind: str
    symmetric: bool = True
    group: int | None = None  # columns that share a scale
    packed: bool = True  # W4A16: two values in a byte
    scale_shape: str = "column"  # or "flat"
    half_model: bool = False  # static: deq_scale as the float32's bits in int64
    scale_type: str = "float32"


SCHEMES = {
    "w8a16": Scheme("W8A16"),
    "w8a16-flat": Scheme("W8A16", scale_shape="flat", scale_type="float16"),
    "w8a16-offset": Scheme("W8A16", symmetric=False),
    "w8a16-group": Scheme("W8A16", symmetric=False, group=8),
    "w8a8-dynamic": Scheme("W8A8_DYNAMIC"),
    "w8a8-static": Scheme("W8A8"),
    "w8a8-static-half": Scheme("W8A8", half_model=True),
    "w8a8-mix": Scheme("W8A8_MIX"),
    "w4a16": Scheme("W4A16"),
    "w4a16-offset": Scheme("W4A16", symmetric=False),
    "w4a16-group": Scheme("W4A16", symmetric=False, group=8),
    "w4a16-unpacked": Scheme("W4A16", symmetric=False, group=8, packed=False),
}


def quantize_rows(
    weight: np.ndarray, bits: int, symmetric: bool, group: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole numbers [out, in], scales and offsets [out, groups]: w ≈ (q - offset) * scale."""
    rows, columns = weight.shape
    top = 2 ** (bits - 1) - 1
    width = group or columns
    q = np.zeros((rows, columns), np.int8)
    scales = np.zeros((rows, columns // width), np.float32)
    offsets = np.zeros_like(scales)
    for row in range(rows):
        for part in range(columns // width):
            values = weight[row, part * width : (part + 1) * width]
            if symmetric:
                scale, offset = np.float32(np.abs(values).max() / top), np.float32(0)
            else:
                scale = np.float32((values.max() - values.min()) / (2 * top + 1))
                offset = np.float32(np.round(-values.min() / scale) - top - 1)
            whole = np.clip(np.round(values / scale) + offset, -top - 1, top)
            q[row, part * width : (part + 1) * width] = whole
            scales[row, part], offsets[row, part] = scale, offset
    return q, scales, offsets


def pack_nibbles(q: np.ndarray) -> np.ndarray:
    """int4 [a, b] to int8 [a, b/2]: the even column in the low half of the byte."""
    unsigned = (q.astype(np.int16) & 15).astype(np.uint8)
    return (unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)).view(np.int8)


def write_linear(
    name: str, weight: np.ndarray, bias: np.ndarray | None, scheme: Scheme, random: Any
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
    """Tensors of one linear module, and the float weight and bias that they mean."""
    bits = 4 if scheme.kind == "W4A16" else 8
    q, scale, offset = quantize_rows(weight, bits, scheme.symmetric, scheme.group)
    scale = scale.astype(scheme.scale_type)
    width = scheme.group or weight.shape[1]
    spread_scale = np.repeat(scale.astype(np.float64), width, axis=1)
    meant = (q - np.repeat(offset.astype(np.float64), width, axis=1)) * spread_scale
    tensors: dict[str, np.ndarray] = {f"{name}.weight": q}
    if scheme.kind == "W4A16" and scheme.packed:
        per_channel = scale.shape[1] == 1
        tensors[f"{name}.weight"] = pack_nibbles(q) if per_channel else pack_nibbles(q.T).T.copy()
    if scheme.kind != "W8A8":
        flat = scheme.scale_shape == "flat"
        tensors[f"{name}.weight_scale"] = scale[:, 0].copy() if flat else scale
        offset = offset.astype(scheme.scale_type)
        tensors[f"{name}.weight_offset"] = offset[:, 0].copy() if flat else offset
    if scheme.kind in ("W8A8", "W8A8_MIX"):
        input_scale = np.float32(random.uniform(0.02, 0.04))
        input_offset = np.float32(random.integers(-20, 20))
        deq_scale = input_scale * scale[:, 0]
        real_bias = np.zeros(len(weight), np.float32) if bias is None else bias
        correction = q.astype(np.float32).sum(axis=1) * input_offset
        quant_bias = np.round(real_bias / deq_scale - correction).astype(np.int32)
        tensors[f"{name}.input_scale"] = np.array([input_scale])
        tensors[f"{name}.input_offset"] = np.array([input_offset])
        tensors[f"{name}.quant_bias"] = quant_bias
        bits_of_scale = deq_scale.view(np.int32).astype(np.int64)
        tensors[f"{name}.deq_scale"] = bits_of_scale if scheme.half_model else deq_scale
        if scheme.kind == "W8A8" and bias is not None:
            bias = deq_scale.astype(np.float64) * np.round(real_bias / deq_scale)
    if bias is not None:
        tensors[f"{name}.bias"] = bias.astype(np.float32)
    return tensors, meant, bias


def make_ascend_checkpoint(
    folder: Path,
    architecture: str = "PanguProMoE",
    schemes: tuple[Scheme, ...] = (SCHEMES["w8a16"],),
    in_float: str = "no such module",
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write a random model twice: in Ascend's layout, and in float as its numbers are meant.

    Parameters
    ----------
    schemes
        Taken in turn, module by module.
    in_float
        Linear modules with this in their name stay FLOAT.

    Returns
    -------
    The two folders.
    """
    sizes = MOE_SIZES if architecture == "PanguProMoE" else DENSE_SIZES
    plain = make_tiny_checkpoint(folder / "plain", architecture, seed=seed, **sizes)
    ascend = folder / "ascend"
    shutil.copytree(plain, ascend, ignore=shutil.ignore_patterns("*.safetensors"))
    source = load_file(plain / "model.safetensors")
    random = np.random.default_rng(seed)
    stored, meant, description = {}, dict(source), {"model_quant_type": schemes[0].kind}
    linears = [name for name in source if name.endswith("_proj.weight") and in_float not in name]
    for number, full_name in enumerate(sorted(linears)):
        name, scheme = full_name.removesuffix(".weight"), schemes[number % len(schemes)]
        bias = source.get(f"{name}.bias")
        tensors, weight, bias = write_linear(name, source[full_name], bias, scheme, random)
        stored |= tensors
        description |= {key: "FLOAT" if key.endswith(".bias") else scheme.kind for key in tensors}
        meant[full_name] = weight.astype(np.float32)
        if bias is not None:
            meant[f"{name}.bias"] = bias.astype(np.float32)
    for name, tensor in source.items():
        if name not in stored:
            stored[name] = tensor
            description[name] = "FLOAT"
    save_file(stored, ascend / "quant_model_weights.safetensors")
    save_file(meant, plain / "model.safetensors")
    description |= {"version": "1.0.0", "group_size": 8, "metadata": {}, "optional": {}}
    (ascend / "quant_model_description.json").write_text(json.dumps(description))
    change_json(ascend / "config.json", quantize="w8a8_dynamic", moe_quantize="w8a8_dynamic")
    return ascend, plain


def change_json(file: Path, **values: Any) -> None:
    """Add or, with None, remove keys."""
    told = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


def change_tensors(folder: Path, change: Any) -> None:
    """Change the stored tensors in place, and let the description follow the new names."""
    file = folder / "quant_model_weights.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, file)


def to_bfloat16(folder: Path, file_name: str) -> None:
    """Store every float tensor but scales in bfloat16, as a file of a bfloat16 model has them."""
    tensors = {}
    for name, array in load_file(folder / file_name).items():
        tensor = torch.from_numpy(array)
        scales = name.endswith(("_scale", "_offset", "_proj.bias"))
        is_plain = tensor.dtype == torch.float32 and not scales
        tensors[name] = tensor.to(torch.bfloat16) if is_plain else tensor
    save_torch_file(tensors, folder / file_name)
