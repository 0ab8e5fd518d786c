"""Linear modules that multiply in float32, piece by piece, where the fast ways are not to be had.

Most laptops' processors have no instructions for bfloat16: there torch multiplies bfloat16 matrices
three to ten times more slowly than float32 ones. Without AVX-512, bitsandbytes takes 6 ns to
dequantize one 4-bit weight, and brings a whole 8-bit weight to float32 for every product.
The products of bfloat16 numbers are exact in float32, so the results differ in the order of sums only.
"""

from __future__ import annotations

import platform

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_blockwise
from torch import nn

from workbench.models.empty import empty_modules

BLOCK = 64  # 4-bit weights that share a scale
CHUNK = 1 << 19  # weights that are in float32 at once: they stay in the processor's cache
FEW_TOKENS = 16  # for which bringing a weight to float32 takes longer than it saves
FEW_INT8_TOKENS = 64  # for which the product takes less than bringing an 8-bit weight to float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices as fast as float32 ones, or faster."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(bnb.functional.has_avx512bf16())  # torch's own answer counts emulation too
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def cpu_has_avx512() -> bool:
    """Whether bitsandbytes has fast ways to dequantize 4 bit and to multiply 8 bit on this CPU."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def fits_kernels(module: nn.Module) -> bool:
    """Whether bitsandbytes' 4-bit kernels compute this module's sizes rightly."""
    return module.in_features % BLOCK == 0


class Linear4bit(bnb.nn.Linear4bit):
    """bitsandbytes' 4-bit module, dequantized here where its own kernels are slow or wrong.

    They are slow on a CPU for a weight that is not packed, and wrong (scales of the wrong blocks)
    for rows that do not end with a block of 64. No released Pangu model has such sizes.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.weight.quant_state
        packed = getattr(state, "packing_format_for_cpu", False)
        if packed or (x.device.type != "cpu" and fits_kernels(self)):
            return super().forward(x)
        weight, scales = self.weight.data.view(torch.uint8).reshape(-1), plain_scales(state)
        table, columns = code_pairs(state), self.in_features
        has_kernel = cpu_has_avx512() and fits_kernels(self)
        inputs = x.to(self.compute_dtype).float()
        outputs = x.new_empty(*x.shape[:-1], self.out_features)
        step = max(BLOCK, CHUNK // columns // BLOCK * BLOCK)  # rows: whole blocks, whole bytes
        for start in range(0, self.out_features, step):
            stop = min(start + step, self.out_features)
            first, last = start * columns, stop * columns
            held = weight[first // 2 : -(-last // 2)]
            scale = scales[first // BLOCK : -(-last // BLOCK)]
            if has_kernel:
                rows = torch.ops.bitsandbytes.dequantize_4bit(
                    held,
                    scale,
                    BLOCK,
                    state.quant_type,
                    (stop - start, columns),
                    self.compute_dtype,
                )
            else:
                rows = dequantized(held, scale, table)[: last - first].view(-1, columns)
                rows = rows.to(self.compute_dtype)  # rounded as bitsandbytes rounds them
            bias = None if self.bias is None else self.bias[start:stop].float()
            outputs[..., start:stop] = nn.functional.linear(inputs, rows.float(), bias)
        return outputs


class Linear8bitLt(bnb.nn.Linear8bitLt):
    """bitsandbytes' LLM.int8() module; a few tokens go through it piece by piece where that is faster.

    The numbers are bitsandbytes' own to the bit: a row of the weight needs no other.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        many = x.numel() > FEW_INT8_TOKENS * self.in_features
        if many or self.training or x.device.type != "cpu" or cpu_has_avx512():
            return super().forward(x)
        if self.weight.CB is not None:
            self.init_8bit_state()
        inputs = x.reshape(-1, self.in_features)
        weight, scales = self.state.CB, self.state.SCB
        int8, factors, outliers = torch.ops.bitsandbytes.int8_vectorwise_quant(
            inputs.to(torch.float16), self.state.threshold
        )
        outputs = x.new_empty(len(inputs), self.out_features)
        step = max(1, CHUNK // self.in_features)
        for start in range(0, self.out_features, step):
            rows = slice(start, start + step)
            bias = None if self.bias is None else self.bias[rows].to(x.dtype)
            outputs[:, rows], _ = torch.ops.bitsandbytes.int8_mixed_scaled_mm(
                inputs, int8, weight[rows], factors, scales[rows], outliers, bias
            )
        return outputs.view(*x.shape[:-1], self.out_features)


class Float32Linear(nn.Linear):
    """A linear module with a bfloat16 weight that multiplies in float32 where that is faster."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        few = x.numel() < FEW_TOKENS * self.in_features
        if few or x.device.type != "cpu" or self.weight.dtype is not torch.bfloat16:
            return super().forward(x)
        inputs, outputs = x.float(), x.new_empty(*x.shape[:-1], self.out_features)
        step = max(1, CHUNK // self.in_features)
        for start in range(0, self.out_features, step):
            rows = slice(start, start + step)
            bias = None if self.bias is None else self.bias[rows].float()
            outputs[..., rows] = nn.functional.linear(inputs, self.weight[rows].float(), bias)
        return outputs


def use_float32(model: nn.Module) -> None:
    """Put `Float32Linear` in the place of a model's plain linear modules, which are still empty."""
    with empty_modules():
        for name, module in list(model.named_modules()):
            if type(module) is nn.Linear:
                has_bias = module.bias is not None
                new = Float32Linear(module.in_features, module.out_features, has_bias)
                new.requires_grad_(False)
                parent, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(parent), leaf, new.eval())


def code_pairs(state: QuantState) -> torch.Tensor:
    """The two float32 numbers that each byte of a 4-bit weight stands for, as one int64: [256].

    The first of the two stands in the high half of a byte.
    """
    pairs = torch.cartesian_prod(state.code.float(), state.code.float())
    return pairs.contiguous().view(torch.int64).view(-1)


def dequantized(weight: torch.Tensor, scales: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Flat float32 weights of the bytes of whole blocks (but for the last): code × scale.

    Parameters
    ----------
    weight
        uint8, two weights a byte.
    scales
        float32, one for each block.
    table
        As `code_pairs` gives it.
    """
    values = table.index_select(0, weight.int()).view(torch.float32)
    whole = values.numel() // BLOCK
    values[: whole * BLOCK].view(-1, BLOCK).mul_(scales[:whole, None])
    values[whole * BLOCK :].mul_(scales[whole:])
    return values


def plain_scales(state: QuantState) -> torch.Tensor:
    """The float32 scale of every block, with double quantization undone."""
    if not state.nested:
        return state.absmax.float()
    return dequantize_blockwise(state.absmax, state.state2).float() + state.offset
