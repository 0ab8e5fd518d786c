"""In which precision a checkpoint is loaded: bits, the kind of 4 bit, and the type of every tensor."""

from __future__ import annotations

import shlex

import torch

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.errors import QuantizationError
from workbench.loading.tensors import component_of

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def choose_bits(checkpoint: Checkpoint, bits: int | None) -> int:
    """The precision to load: what is asked for, or what a quantized file holds, or 4.

    Raises
    ------
    QuantizationError
        For bits other than 4, 8 and 16, or other bits than a file of bitsandbytes holds. Ascend's
        files can be had in all: as stored, or quantized again, or dequantized in 16 bit.
    """
    if bits is None:
        return checkpoint.stored_bits if checkpoint.stored_bits < 16 else 4
    if type(bits) is not int or bits not in (4, 8, 16):
        raise QuantizationError(f"bits is {bits!r}; expected 4, 8 or 16.")
    if checkpoint.is_bitsandbytes and bits != checkpoint.stored_bits:
        raise QuantizationError(
            f"{checkpoint.name} is already quantized to {checkpoint.stored} and cannot be loaded in "
            f"{bits} bit. Load it with bits={checkpoint.stored_bits}, or pass the 16-bit checkpoint."
        )
    return bits


def choose_quant_type(
    checkpoint: Checkpoint, quant_type: str | None, bits: int | None = None
) -> str:
    """The kind of 4 bit: what is asked for, or what a quantized file holds, or "nf4".

    Parameters
    ----------
    bits
        At which the checkpoint is loaded; None where it is converted.

    Raises
    ------
    QuantizationError
        For another name than "nf4" and "fp4", another kind than a file of bitsandbytes holds, or
        any kind where 4-bit weights for Ascend are loaded as the file holds them.
    """
    if quant_type not in (None, "nf4", "fp4"):
        raise QuantizationError(f"quant_type is {quant_type!r}; expected 'nf4' or 'fp4'.")
    if checkpoint.is_bitsandbytes and quant_type not in (None, checkpoint.stored):
        raise QuantizationError(
            f"{checkpoint.name} is already quantized to {checkpoint.stored} and is not available in "
            f"{quant_type}. Leave quant_type out, or pass the 16-bit checkpoint it was made from."
        )
    if quant_type is not None and bits == 4 and checkpoint.stays_as_stored(bits):
        raise QuantizationError(
            f"{checkpoint.name} is loaded as it is stored, in {checkpoint.stored}, which is not "
            f"{quant_type}. Leave quant_type out, or convert it: python -m workbench quantize "
            f"{shlex.quote(checkpoint.name)} FOLDER --bits 4 --quant-type {quant_type}"
        )
    return quant_type or (checkpoint.stored if checkpoint.stored == "fp4" else "nf4")


def compute_dtype(checkpoint: Checkpoint, bits: int, device: str) -> torch.dtype:
    """The type of activations and of all that is not quantized.

    As stored (of Ascend's files, as the rest is stored); but fp16 becomes bf16 on a CPU, where fp16 is 16 times slower, and a quantized
    model computes in bf16.
    """
    if bits < 16:
        return torch.bfloat16
    dtype = DTYPES[checkpoint.float_type]
    return torch.bfloat16 if dtype is torch.float16 and device == "cpu" else dtype


def kept_dtype(name: str, stored: str, compute: torch.dtype) -> torch.dtype:
    """The type in memory of a tensor that is not quantized; `stored` is safetensors' type name.

    The router stays as exact as it is stored (fp16 as fp32, which holds it exactly); all else has
    the type of the activations.
    """
    if component_of(name) == "router" and stored != "BF16":
        return torch.float32
    return compute
