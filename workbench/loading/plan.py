"""What loading will take, known before any weight is read: the precision, bytes, whether they fit."""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from bitsandbytes.functional import has_avx512bf16

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.errors import QuantizationError
from workbench.linear.ascend_linear import is_kept_as_stored
from workbench.loading.devices import chosen_device, devices_of, free_bytes
from workbench.loading.precision import (
    choose_bits,
    choose_quant_type,
    compute_dtype,
    kept_dtype,
)
from workbench.loading.sizes import format_size, format_table, size_in_bytes, size_to_ask_for
from workbench.loading.tensors import component_of, expected_shapes, is_quantizable

WORKING_SHARE = 0.9  # of the free memory that a model may take; the rest is for running it


@dataclass(frozen=True)
class Plan:
    """What loading will take, known before any weight is read.

    Attributes
    ----------
    checkpoint : Checkpoint
        What is to be loaded.
    frame : pandas.DataFrame
        component, parameters, bytes: in memory at the planned precision.
    bits : int
        4, 8 or 16.
    quant_type : str
        "nf4" or "fp4", at 4 bits.
    dtype : torch.dtype
        Of activations and of all that is not quantized.
    device : str
    shapes : dict of str to tuple of int
        Of the tensors that the configuration asks for, by name.
    own_modules : bool
        Whether modules of our own may hold what Ascend's files store. Without them the model is
        what transformers' layout can hold: at 4 and 8 bits every linear module is bitsandbytes'.
    free_bytes : int
        What the device has free now.
    memory_bytes : int or None
        The most that the weights will take at one time, where they stay on disk; see
        `workbench.loading.streaming`. None where the model is loaded whole.
    allowed_bytes : int or None
        What `memory=` allowed; None where nothing was said.
    must_convert : bool
        Whether weights that stay on disk would be quantized every time they are read, which is
        refused: the checkpoint has to be converted once.
    least_bytes : int or None
        The least memory that it can be run with from disk; None where that was not asked for, see
        `workbench.loading.units.with_least_bytes`.
    memory : str, int or None
        What `memory=` was: a size, "auto", or a number of bytes.
    """

    checkpoint: Checkpoint = field(repr=False)
    frame: pd.DataFrame
    bits: int
    quant_type: str
    dtype: torch.dtype
    device: str
    free_bytes: int
    shapes: dict[str, tuple[int, ...]] = field(repr=False)
    own_modules: bool = True
    memory_bytes: int | None = None
    allowed_bytes: int | None = None
    must_convert: bool = False
    least_bytes: int | None = None
    memory: str | int | None = None

    @property
    def name(self) -> str:
        """What the checkpoint was called when it was opened."""
        return self.checkpoint.name

    @property
    def as_stored(self) -> bool:
        """Whether linear modules stay as an Ascend file holds them."""
        return self.own_modules and self.checkpoint.stays_as_stored(self.bits)

    @property
    def stored_type(self) -> str:
        """How bitsandbytes holds what it quantizes: "nf4", "fp4" or "int8"."""
        return self.quant_type if self.bits == 4 and not self.as_stored else "int8"

    @property
    def in_float(self) -> set[str]:
        """Weights of linear modules that are not quantized although others are."""
        return self.checkpoint.linears_in_float if self.as_stored else set()

    def kept_dtype(self, name: str, stored: str) -> torch.dtype:
        """The type in memory of a tensor that is not quantized; see `precision.kept_dtype`."""
        return kept_dtype(name, stored, self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole model at the planned precision."""
        return int(self.frame["bytes"].sum())

    @property
    def fits(self) -> bool:
        """Whether the weights leave a tenth of the free memory for running the model.

        Those that stay on disk must also be runnable in the memory that is allowed.
        """
        if self.memory_bytes is None:
            return self.nbytes <= WORKING_SHARE * self.free_bytes
        enough = (self.least_bytes or 0) <= self.memory_bytes <= WORKING_SHARE * self.free_bytes
        return enough and not self.must_convert

    def __str__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        if self.memory_bytes is not None and self.must_convert:
            verdict += f"; to leave it on disk, {self.how_to_convert}"
        elif self.memory_bytes is not None and (self.least_bytes or 0) > self.memory_bytes:
            verdict += f"; the minimum is {size_to_ask_for(self.least_bytes)}"
        size = f"{self.nbytes / 1e9:.3f} GB"
        if self.memory_bytes is not None:
            size += f" left on disk, at most {format_size(self.memory_bytes)} in memory at a time,"
        elif self.allowed_bytes is not None:
            size += f", whole in memory ({format_size(self.allowed_bytes)} allowed),"
        return (
            f"Plan for {self.name} in {self.bits} bit on {self.device}: "
            f"{size} of {self.free_bytes / 1e9:.1f} GB free: {verdict}.\n"
            + format_table(self.frame)
        )

    def _repr_html_(self) -> str:
        return f"<pre>{self}</pre>"

    @property
    def how_to_convert(self) -> str:
        """What to do with a checkpoint whose weights must be quantized before they stay on disk."""
        return (
            f"convert it once: python -m workbench quantize {shlex.quote(self.name)} FOLDER "
            f"--bits {self.bits}, "
            'then load FOLDER with memory="auto" or a size'
        )


def make_plan(
    checkpoint: Checkpoint,
    bits: int | None = None,
    device: str = "auto",
    quant_type: str | None = None,
    memory: str | float | None = None,
    own_modules: bool = True,
) -> Plan:
    """Decide how a checkpoint is loaded, and reckon the bytes that each component will take.

    Parameters
    ----------
    bits, quant_type
        See `precision.choose_bits` and `precision.choose_quant_type`.
    device
        "cpu", "cuda", "cuda:1" and so on, or "auto": all CUDA devices if there is one.
    memory
        See `with_memory`.
    own_modules
        See `Plan`.

    Raises
    ------
    QuantizationError
        For a precision, a device or a size that cannot be had.
    """
    bits = choose_bits(checkpoint, bits)
    quant_type = choose_quant_type(checkpoint, quant_type, bits if own_modules else None)
    device = chosen_device(device)
    kind, free = torch.device(devices_of(device)[0]).type, free_bytes(device)
    plan = Plan(
        checkpoint, pd.DataFrame(), bits, quant_type, compute_dtype(checkpoint, bits, kind), device,
        free, expected_shapes(checkpoint), own_modules,
        must_convert=bits < checkpoint.stored_bits,
    )  # fmt: skip
    parameters, sizes = defaultdict(int), defaultdict(int)
    for name, shape in plan.shapes.items():
        component = component_of(name)
        parameters[component] += torch.Size(shape).numel()
        sizes[component] += _bytes_in_memory(plan, name, kind)
    columns = {"component": list(sizes), "parameters": parameters.values(), "bytes": sizes.values()}
    return with_memory(replace(plan, frame=pd.DataFrame(columns)), memory)


def _bytes_in_memory(plan: Plan, name: str, device_type: str) -> int:
    """Of one tensor, at the planned precision."""
    shape = plan.shapes[name]
    count = torch.Size(shape).numel()
    if plan.as_stored and is_quantizable(name):
        return _bytes_as_stored(plan.checkpoint, name, count, plan.dtype)
    if plan.bits == 4 and is_quantizable(name):
        # Half a byte, and per block of 64 a scale: 2 bytes where it is packed, else 1, and 4 for
        # 256 of them; beside it the 16 values of 4 bit, and the 256 of an 8-bit scale.
        packs = device_type == "cpu" and has_avx512bf16()
        return count // 2 + (count // 32 + 64 if packs else count // 64 + count // 4096 + 64 + 1024)
    if plan.bits == 8 and is_quantizable(name):
        return count + 4 * shape[0]
    info = plan.checkpoint.tensors.get(name)
    return count * plan.kept_dtype(name, "BF16" if info is None else info.dtype).itemsize


def _bytes_as_stored(checkpoint: Checkpoint, name: str, count: int, dtype: torch.dtype) -> int:
    """Of a linear module's weight that stays as Ascend's file holds it."""
    module = name.removesuffix(".weight")
    if module not in checkpoint.linear_types:  # in float
        return count * dtype.itemsize
    if is_kept_as_stored(checkpoint, module):
        parts = {f"{module}.{part}" for part in ("weight", "weight_scale", "weight_offset")}
        return sum(checkpoint.tensors[part].nbytes for part in parts & checkpoint.tensors.keys())
    return count + 4 * checkpoint.tensors[name].shape[0]  # LLM.int8()


def with_memory(plan: Plan, memory: str | float | None) -> Plan:
    """The plan when the weights may take at most `memory` at a time.

    Parameters
    ----------
    memory
        Bytes, or a size such as "8GB"; "auto" is what is free, less a tenth for running the
        model; None is no limit. A model that is no larger is loaded whole; another one runs on
        the first of several devices.
    """
    if memory is None:
        return plan
    allowed = int(WORKING_SHARE * plan.free_bytes) if memory == "auto" else size_in_bytes(memory)
    plan = replace(plan, memory=memory if isinstance(memory, str) else allowed)
    if plan.nbytes <= allowed:
        return replace(plan, allowed_bytes=allowed)
    first = devices_of(plan.device)[0]
    if first != plan.device:
        plan = replace(plan, device=first, free_bytes=free_bytes(first))
        allowed = min(allowed, int(WORKING_SHARE * plan.free_bytes))
    return replace(plan, memory_bytes=allowed, allowed_bytes=allowed)


def require_fit(plan: Plan) -> None:
    """Raise, naming what would fit, if the plan does not.

    Raises
    ------
    QuantizationError
        Also for weights that would have to be quantized every time they are read.
    """
    free, usable = format_size(plan.free_bytes), format_size(int(WORKING_SHARE * plan.free_bytes))
    if plan.memory_bytes is not None and plan.must_convert:
        raise QuantizationError(
            f"{plan.name} is stored in {plan.checkpoint.stored} and takes {format_size(plan.nbytes)} in "
            f"{plan.bits} bit, more than the {format_size(plan.memory_bytes)} allowed. Left on disk "
            f"it would be quantized again every time it is read: {plan.how_to_convert}."
        )
    if plan.fits:
        return
    if plan.memory_bytes is not None:
        raise QuantizationError(
            f"memory allows {format_size(plan.memory_bytes)}, and {plan.device} has {free} "
            f'free (a tenth is reserved for running). Pass memory="auto", which takes {usable}.'
        )
    fitting = [
        f"bits={bits} ({smaller.nbytes / 1e9:.1f} GB)"
        for bits in (8, 4)
        if bits < plan.bits
        and not plan.checkpoint.is_bitsandbytes
        and (smaller := make_plan(plan.checkpoint, bits, plan.device)).fits
    ]
    advice = f"It would fit with {' or '.join(fitting)}." if fitting else (
        f"No precision fits here: it needs a device with {plan.nbytes / WORKING_SHARE / 1e9:.1f} GB "
        "free, or a smaller model."
    )  # fmt: skip
    streamed = (
        plan.how_to_convert
        if plan.must_convert
        else 'load it with memory="auto" (on the command line --memory auto)'
    )
    raise QuantizationError(
        f"{plan.name} in {plan.bits} bit needs {format_size(plan.nbytes)}, and {plan.device} has "
        f"{free} free (a tenth is reserved for running). {advice} Or leave the weights on disk, "
        f"with at most {usable} of them in memory at a time: {streamed}."
    )
