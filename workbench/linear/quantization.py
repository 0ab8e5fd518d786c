"""4 and 8 bit with bitsandbytes: its modules in the place of linear ones, filled one by one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState
from torch import nn
from transformers import BitsAndBytesConfig

from workbench.errors import CheckpointError, QuantizationError
from workbench.linear.float32_linear import (
    BLOCK,
    CHUNK,
    Linear4bit,
    Linear8bitLt,
    fits_kernels,
    plain_scales,
)
from workbench.models.empty import empty_modules

# LLM.int8() would say at every call that it casts bf16 to fp16.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

KEPT = ("mlp.gate", "lm_head")  # linear modules that are never quantized
INT8_THRESHOLD = 6.0  # LLM.int8(): inputs beyond this go through 16 bit
PACKED_ROWS = 32  # rows that bitsandbytes' CPU kernel reads together


def replace_linears(
    model: nn.Module, bits: int, quant_type: str, dtype: torch.dtype
) -> dict[str, nn.Module]:
    """Put empty bitsandbytes modules in the place of every linear one that is quantized.

    Returns
    -------
    The new modules by name.
    """
    replaced = {}
    with empty_modules():
        for name, module in list(model.named_modules()):
            if type(module) is not nn.Linear or name.endswith(KEPT):
                continue
            if bits == 4:
                new = Linear4bit(
                    module.in_features,
                    module.out_features,
                    module.bias is not None,
                    compute_dtype=dtype,
                    compress_statistics=True,
                    quant_type=quant_type,
                )
            else:
                new = empty_int8(module)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, new.eval())
            replaced[name] = new
    return replaced


def empty_int8(module: nn.Linear) -> nn.Module:
    """An LLM.int8() module of a linear module's sizes; to be called in `empty_modules`."""
    return Linear8bitLt(
        module.in_features,
        module.out_features,
        module.bias is not None,
        has_fp16_weights=False,
        threshold=INT8_THRESHOLD,
    )


def quantization_config(bits: int, quant_type: str) -> BitsAndBytesConfig:
    """The same choices as transformers writes them into `config.json`."""
    return BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_threshold=INT8_THRESHOLD,
        llm_int8_skip_modules=list(KEPT),
    )


def quantize(module: nn.Module, name: str, weight: torch.Tensor, device: str) -> None:
    """Fill a bitsandbytes module from a 16- or 32-bit weight, [out, in].

    Raises
    ------
    QuantizationError
        At 8 bits for a number beyond what float16 holds, which LLM.int8() computes with.
    """
    if isinstance(module, bnb.nn.Linear4bit):
        parameter = bnb.nn.Params4bit(
            weight,
            requires_grad=False,
            compress_statistics=True,
            quant_type=module.weight.quant_type,
            module=module,
        )
        module.weight = parameter.to(device)
        module.quant_state = module.weight.quant_state
    else:
        held = torch.empty(weight.shape, dtype=torch.int8, device=device)
        scale = torch.empty(len(weight), device=device)
        step = max(1, CHUNK // weight.shape[1])  # a row needs no other; pieces stay in the cache
        for start in range(0, len(weight), step):
            rows = slice(start, start + step)
            held[rows], scale[rows], _ = bnb.functional.int8_vectorwise_quant(
                weight[rows].to(device, torch.float16)
            )
        if not bool(torch.isfinite(scale).all()):
            raise QuantizationError(
                f"{name}.weight has numbers beyond 65,504, which LLM.int8() cannot hold; "
                "use 4 or 16 bit."
            )
        set_int8(module, held, scale)


def set_int8(module: bnb.nn.Linear8bitLt, weight: torch.Tensor, scale: torch.Tensor) -> None:
    """Give an LLM.int8() module its whole numbers, int8 [out, in], and float32 scales, [out]."""
    module.weight = bnb.nn.Int8Params(
        weight, requires_grad=False, has_fp16_weights=False, CB=weight, SCB=scale
    )


def restore(module: nn.Module, name: str, parts: Mapping[str, torch.Tensor], device: str) -> None:
    """Fill a bitsandbytes module from what a file holds quantized.

    Parameters
    ----------
    parts
        The tensors of this module by what follows its name: "weight", "weight.absmax", "SCB" …

    Raises
    ------
    CheckpointError
        If a part is missing or does not fit the module.
    """
    weight, count = parts["weight"], module.out_features * module.in_features
    try:
        if isinstance(module, bnb.nn.Linear4bit):
            statistics = {f"{name}.{part}": value for part, value in parts.items() if "." in part}
            module.weight = bnb.nn.Params4bit.from_prequantized(
                weight, quantized_stats=statistics, device=device, module=module
            )
            state = module.weight.quant_state
            shape, scales = tuple(state.shape), state.absmax.numel()
            expected_scales = -(-count // BLOCK)
            if state.blocksize != BLOCK:
                raise ValueError(f"blocks of {state.blocksize} numbers, expected {BLOCK}")
        else:
            if "weight_format" in parts and parts["weight_format"].any():
                raise ValueError("it is laid out for one kind of GPU, not row by row")
            weight, scale = weight.to(device), parts["SCB"].to(device)
            set_int8(module, weight, scale)
            shape, scales, expected_scales = tuple(weight.shape), scale.numel(), module.out_features
    except (KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise CheckpointError(
            f"{name}.weight has a quantization state that cannot be read ({type(error).__name__}: "
            f"{error}). Download it again, or convert it again from the 16-bit checkpoint."
        ) from error
    if scales != expected_scales:
        raise CheckpointError(
            f"{name}.weight has {scales:,} scales, expected {expected_scales:,}; download it again."
        )
    if shape != (module.out_features, module.in_features):
        raise CheckpointError(
            f"{name}.weight has shape {list(shape)}, expected "
            f"{[module.out_features, module.in_features]} by config.json."
        )


def pack(module: nn.Module, wanted: bool = True) -> None:
    """Lay a 4-bit weight out for the CPU's kernel, which bitsandbytes would do in the first prompt.

    A module on another device, of another kind, or of sizes that the kernel cannot take is left as
    it is. A packed module refuses `state_dict()`: bitsandbytes cannot undo the packing exactly.
    """
    if not is_packable(module, module.weight.device, wanted):
        if isinstance(module, bnb.nn.Linear4bit) and module.weight.device.type == "cpu":
            module.support_avx512bf16_for_cpu = False  # bitsandbytes would pack it in a prompt
        return
    state = module.weight.quant_state
    module.weight.data = packed(module.weight.data, state)
    describe_packed(state)
    module.quant_state = state
    if _refuse_state_dict not in module._state_dict_pre_hooks.values():  # filled before
        module.register_state_dict_pre_hook(_refuse_state_dict)


def is_packable(module: nn.Module, device: str | torch.device, wanted: bool = True) -> bool:
    """Whether `pack` packs the weight of this module on this device."""
    return (
        wanted
        and isinstance(module, bnb.nn.Linear4bit)
        and fits_kernels(module)
        and torch.device(device).type == "cpu"
        and module.support_avx512bf16_for_cpu
        and module.out_features % PACKED_ROWS == 0
    )


def packed_scale_bytes(module: nn.Module) -> int:
    """Bytes beside a packed weight's 4-bit numbers: bf16 scales, the 16 codes, their offset."""
    return 2 * (module.in_features * module.out_features // BLOCK) + 4 * 16 + 4


def packed(weight: torch.Tensor, state: QuantState) -> torch.Tensor:
    """4-bit weights in the order that bitsandbytes' CPU kernel reads.

    Bit for bit what bitsandbytes' own `_convert_weight_packed_for_cpu` gives, with a tenth of its
    temporary memory: rows m and m + 16 of every 32 share a byte, column pair by column pair.

    Parameters
    ----------
    weight
        uint8, rows * columns / 2 bytes; the even column stands in the high half of a byte.

    Returns
    -------
    uint8, [rows, columns / 2].
    """
    rows, columns = state.shape
    halves = weight.view(torch.uint8).view(rows // PACKED_ROWS, 2, PACKED_ROWS // 2, columns // 2)
    upper, lower = halves[:, 0], halves[:, 1]  # [block, row, column pair]
    even = (upper >> 4) | (lower & 0xF0)
    odd = (upper & 0x0F) | (lower << 4)
    pairs = torch.stack((even, odd), dim=-1).view(torch.int16).squeeze(-1)
    turned = pairs.transpose(1, 2).contiguous()  # [block, column pair, row]
    return turned.view(torch.uint8).view(rows, columns // 2)


def describe_packed(state: QuantState) -> None:
    """Change a quantization state in place to that of a packed weight: plain scales in bf16."""
    state.original_dtype, state.original_nested = state.dtype, state.nested
    rows, columns = state.shape
    state.original_qshape = torch.Size([rows * columns // 2, 1])
    scales = plain_scales(state).reshape(rows, columns // state.blocksize)
    if state.nested:
        state.nested = False
        del state.state2
    state.absmax = scales.T.to(torch.bfloat16).contiguous()
    state.dtype = torch.bfloat16
    state.packing_format_for_cpu = True


def _refuse_state_dict(*_: Any) -> None:
    raise QuantizationError(
        "This 4-bit model is packed for the CPU and cannot return its exact weights. "
        "Save it with pangu.save(folder), which quantizes the source checkpoint again."
    )
