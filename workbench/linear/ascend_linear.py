"""What an Ascend checkpoint's numbers mean: weights and biases in float, and a module that keeps them.

W = (q - weight_offset) * weight_scale, row by row or group by group. The static type holds no
weight scale; an NPU computes y = deq_scale * (x_q · q + quant_bias) with
x_q = x / input_scale + input_offset, so that W = q * deq_scale / input_scale, and the bias is
deq_scale * (quant_bias + input_offset * Σ q). Activations are not rounded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import bitsandbytes as bnb
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.reading import read_tensor
from workbench.errors import CheckpointError
from workbench.linear.quantization import KEPT, empty_int8, set_int8
from workbench.models.empty import empty_modules

CHUNK = 1 << 20  # values that are dequantized at once: they stay in the processor's cache


@dataclass(frozen=True)
class StoredWeight:
    """One linear module as an Ascend checkpoint stores it.

    Attributes
    ----------
    weight : torch.Tensor
        int8: [out, in], or two 4-bit values a byte as [out, in/2] or [out/2, in].
    scale : torch.Tensor
        [out, groups], as stored; of the static type float32, derived.
    offset : torch.Tensor or None
        [out, groups]; None where the type has none.
    bias : torch.Tensor or None
        float32, [out].
    bias_is_rounding : bool
        Whether `bias` is no more than what rounding `quant_bias` to whole numbers left.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor | None
    bias: torch.Tensor | None
    bias_is_rounding: bool = False

    @property
    def is_symmetric(self) -> bool:
        """Whether W is whole numbers × one scale per row, which LLM.int8() can hold too."""
        return self.scale.shape[1] == 1 and (self.offset is None or not self.offset.any())

    def dequantized(self, columns: int) -> torch.Tensor:
        """W in float32, [out, in]."""
        return dequantized(self.weight, self.scale, self.offset, self.scale.shape[0], columns)


def decode(name: str, kind: str, parts: Mapping[str, torch.Tensor]) -> StoredWeight:
    """Bring the tensors of the linear module `name`, by what follows its name, into one form.

    Raises
    ------
    CheckpointError
        If the numbers of a static one give weights that are not finite.
    """
    weight, bias = parts["weight"], parts.get("bias")
    if kind != "W8A8":
        scale, offset = parts["weight_scale"], parts["weight_offset"]
        rows = scale.shape[0]
        bias = None if bias is None else bias.float()
        return StoredWeight(weight, scale.reshape(rows, -1), offset.reshape(rows, -1), bias)
    deq_scale = parts["deq_scale"].reshape(-1)
    if deq_scale.dtype == torch.int64:  # the bits of a float32
        if bool((((deq_scale >> 32) != 0) & ((deq_scale >> 31) != -1)).any()):
            raise _damaged(f"{name}.deq_scale", "has more than the 32 bits of a float32")
        deq_scale = deq_scale.to(torch.int32).view(torch.float32)
    input_scale, input_offset = (parts[f"input_{part}"].double() for part in ("scale", "offset"))
    scale = (deq_scale.double() / input_scale).float()
    shift = input_offset * weight.sum(dim=1, dtype=torch.int64)  # float64, whole numbers
    whole = parts["quant_bias"].reshape(-1) + shift
    # msmodelslim computes the shift in float32 and rounds once more to a whole number
    rounding = 1 + shift.abs() * 2.0**-22
    is_rounding = (bias is None or not bias.any()) and bool((whole.abs() <= rounding).all())
    derived = (deq_scale.double() * whole).float()
    if not bool(torch.isfinite(scale).all() & torch.isfinite(derived).all()):
        raise _damaged(f"{name}.deq_scale / {name}.input_scale", "is not finite")
    return StoredWeight(weight, scale[:, None], None, derived, is_rounding)


def _damaged(what: str, how: str) -> CheckpointError:
    return CheckpointError(f"{what} {how}; the file is damaged. Download it again.")


def dequantized(
    weight: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor | None,
    rows: int,
    columns: int,
) -> torch.Tensor:
    """(q - offset) * scale in float32, [rows, columns], of int8 or packed 4-bit values."""
    values = unpacked(weight, rows, columns, torch.float32)
    grouped = values.view(rows, scale.shape[1], -1)  # [out, group, column of the group]
    if offset is not None:
        grouped -= offset.to(torch.float32)[:, :, None]
    grouped *= scale.to(torch.float32)[:, :, None]
    return values


def unpacked(
    weight: torch.Tensor, rows: int, columns: int, dtype: torch.dtype = torch.int8
) -> torch.Tensor:
    """A copy of the values, [rows, columns]; where a byte holds two, the low half comes first."""
    values = torch.empty((rows, columns), dtype=dtype, device=weight.device)
    if weight.shape == values.shape:
        return values.copy_(weight)
    if weight.shape[0] == rows:
        first, second = values.view(rows, -1, 2).unbind(2)
    else:
        first, second = values.view(-1, 2, columns).unbind(1)
    first.copy_((weight << 4) >> 4)  # shifts of int8 keep the sign
    second.copy_(weight >> 4)
    return values


class AscendLinear(nn.Module):
    """A linear module whose weight stays as the file stores it and is dequantized to compute.

    Parameters
    ----------
    kind
        The type in the description, for example "W4A16".
    """

    def __init__(self, in_features: int, out_features: int, kind: str) -> None:
        super().__init__()
        self.in_features, self.out_features, self.kind = in_features, out_features, kind
        for name in ("weight", "weight_scale", "weight_offset"):
            setattr(self, name, nn.Parameter(torch.empty(0, device="meta"), requires_grad=False))
        self.register_parameter("bias", None)

    def fill(self, stored: StoredWeight, device: str) -> None:
        """Take over weight, scale and offset; the bias is set by whoever knows its type."""
        parts = (stored.weight, stored.scale, stored.offset)
        for name, tensor in zip(("weight", "weight_scale", "weight_offset"), parts, strict=True):
            setattr(self, name, nn.Parameter(tensor.to(device), requires_grad=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packing = self.out_features // self.weight.shape[0]  # rows that share a byte
        step = max(2, CHUNK // self.in_features // 2 * 2)
        outputs = []
        for start in range(0, self.out_features, step):
            stop = min(start + step, self.out_features)
            weight = dequantized(
                self.weight[start // packing : stop // packing],
                self.weight_scale[start:stop],
                self.weight_offset[start:stop],
                stop - start,
                self.in_features,
            )
            bias = None if self.bias is None else self.bias[start:stop].to(x.dtype)
            outputs.append(nn.functional.linear(x, weight.to(x.dtype), bias))
        return torch.cat(outputs, dim=-1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, kind={self.kind!r}"


class ShiftedRMSNorm(LlamaRMSNorm):
    """RMSNorm with a bias, which smoothing outliers away leaves behind."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__(hidden_size, eps)
        self.bias = nn.Parameter(torch.zeros(hidden_size), requires_grad=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) + self.bias


def is_symmetric(checkpoint: Checkpoint, module: str) -> bool:
    """`StoredWeight.is_symmetric` of a quantized module, from its offsets alone.

    Where the weights are still on the hub, what has no groups is taken for symmetric.
    """
    if checkpoint.linear_types[module] == "W8A8":
        return True
    name = f"{module}.weight_offset"
    info = checkpoint.tensors.get(name)
    if info is None:
        return True  # named as missing when the checkpoint is checked
    if len(info.shape) == 2 and info.shape[1] > 1:
        return False
    return checkpoint.remote or not read_tensor(name, info).any()


def is_kept_as_stored(checkpoint: Checkpoint, module: str) -> bool:
    """Whether a module stays as stored in `AscendLinear`, not in LLM.int8()."""
    return checkpoint.linear_types[module] == "W4A16" or not is_symmetric(checkpoint, module)


def rounds_again(checkpoint: Checkpoint, bits: int) -> bool:
    """Whether bitsandbytes at `bits` would round weights that Ascend's file holds rounded."""
    return (bits == 4 and bool(checkpoint.linear_types)) or (
        bits == 8 and not all(is_symmetric(checkpoint, name) for name in checkpoint.linear_types)
    )


def replace_linears_as_stored(model: nn.Module, checkpoint: Checkpoint) -> dict[str, nn.Module]:
    """Put empty modules in the place of the linear ones that the file holds quantized.

    LLM.int8() takes symmetric 8 bit, `AscendLinear` all else; what the file holds in float stays.

    Returns
    -------
    The new modules by name.
    """
    kept = {name for name in checkpoint.linear_types if is_kept_as_stored(checkpoint, name)}
    replaced = {}
    with empty_modules():
        for name in checkpoint.linear_types:
            if name.endswith(KEPT):
                continue
            module = model.get_submodule(name)
            if name in kept:
                new = AscendLinear(
                    module.in_features, module.out_features, checkpoint.linear_types[name]
                )
            else:
                new = empty_int8(module)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, new.eval())
            replaced[name] = new
    return replaced


def replace_shifted_norms(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Give a bias to the norms that have one in the file."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LlamaRMSNorm) and f"{name}.bias" in checkpoint.tensors:
            with torch.device("meta"):
                new = ShiftedRMSNorm(module.weight.shape[0], module.variance_epsilon)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, new.eval())


def fill_int8(module: bnb.nn.Linear8bitLt, stored: StoredWeight, device: str) -> None:
    """Take symmetric 8 bit over into LLM.int8(), whose weight is CB * SCB / 127.

    CB is the stored whole numbers, exactly. SCB = 127 * scale in float32, so that SCB / 127 is the
    stored scale to within 2^-23 of it.
    """
    weight = unpacked(stored.weight, module.out_features, module.in_features).to(device)
    scale = (stored.scale[:, 0].float() * 127).to(device)
    set_int8(module, weight, scale)
