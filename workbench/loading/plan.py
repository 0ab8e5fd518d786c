"""What loading will take, known before any weight is read: bytes by component, and whether they fit."""

from __future__ import annotations

import math
import re
import shlex
from collections import defaultdict
from dataclasses import dataclass, replace

import pandas as pd
import torch
from bitsandbytes.functional import has_avx512bf16

from workbench.checkpoints.ascend import added_biases
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.errors import QuantizationError
from workbench.linear.ascend_linear import is_kept_as_stored
from workbench.loading.devices import chosen_device, devices_of, free_bytes
from workbench.models import CLASSES
from workbench.models.empty import empty_modules

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
LEAST_BARE = 10_000  # bytes that may be written without a unit
WORKING_SHARE = 0.9  # of the free memory that a model may take; the rest is for running it


@dataclass(frozen=True)
class Plan:
    """What loading will take, known before any weight is read.

    Attributes
    ----------
    frame : pandas.DataFrame
        component, parameters, bytes: in memory at the planned precision.
    bits : int
    device : str
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
        `workbench.loading.streaming.with_least_bytes`.
    memory : str, int or None
        What `memory=` was: a size, "auto", or a number of bytes.
    """

    frame: pd.DataFrame
    bits: int
    device: str
    free_bytes: int
    name: str
    memory_bytes: int | None = None
    allowed_bytes: int | None = None
    must_convert: bool = False
    least_bytes: int | None = None
    memory: str | int | None = None

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
            verdict += f"; the least is {size_to_ask_for(self.least_bytes)}"
        size = f"{self.nbytes / 1e9:.3f} GB"
        if self.memory_bytes is not None:
            size += f" that stay on disk, at a time at most {format_size(self.memory_bytes)}"
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
            f"{checkpoint.name} is already quantized to {checkpoint.stored} and cannot be had in "
            f"{quant_type}. Leave quant_type out, or pass the 16-bit checkpoint it was made from."
        )
    if quant_type is not None and bits == 4 and checkpoint.stays_as_stored(bits):
        raise QuantizationError(
            f"{checkpoint.name} is loaded as it is stored, in {checkpoint.stored}, which is no "
            f"{quant_type}. Leave quant_type out, or convert it: python -m workbench quantize "
            f"{shlex.quote(checkpoint.name)} FOLDER --bits 4 --quant-type {quant_type}"
        )
    return quant_type or (checkpoint.stored if checkpoint.stored == "fp4" else "nf4")


def make_plan(checkpoint: Checkpoint, bits: int, device: str = "auto") -> Plan:
    """Bytes that each component will take at `bits`, and what the machine has free.

    Parameters
    ----------
    device
        "cpu", "cuda", "cuda:1" and so on, or "auto": all CUDA devices if there is one.
    """
    device = chosen_device(device)
    kind, free = torch.device(devices_of(device)[0]).type, free_bytes(device)
    dtype = compute_dtype(checkpoint, bits, kind)
    parameters, sizes = defaultdict(int), defaultdict(int)
    for name, shape in expected_shapes(checkpoint).items():
        count = torch.Size(shape).numel()
        component = component_of(name)
        parameters[component] += count
        if checkpoint.stays_as_stored(bits) and is_quantizable(name):
            sizes[component] += _bytes_as_stored(checkpoint, name, count, dtype)
        elif bits == 4 and is_quantizable(name):
            # Half a byte, and per block of 64 a scale: 2 bytes where it is packed, else 1, and 4 for
            # 256 of them; beside it the 16 values of 4 bit, and the 256 of an 8-bit scale.
            packs = kind == "cpu" and has_avx512bf16()
            scales = count // 32 + 64 if packs else count // 64 + count // 4096 + 64 + 1024
            sizes[component] += count // 2 + scales
        elif bits == 8 and is_quantizable(name):
            sizes[component] += count + 4 * shape[0]
        else:
            stored = checkpoint.tensors[name].dtype if name in checkpoint.tensors else "BF16"
            sizes[component] += count * kept_dtype(name, stored, dtype).itemsize
    frame = pd.DataFrame(
        {"component": list(sizes), "parameters": list(parameters.values()), "bytes": sizes.values()}
    )
    must_convert = bits < checkpoint.stored_bits
    return Plan(frame, bits, device, free, checkpoint.name, must_convert=must_convert)


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


def require_fit(plan: Plan, checkpoint: Checkpoint) -> None:
    """Raise, naming what would fit, if the plan does not.

    Raises
    ------
    QuantizationError
        Also for weights that would have to be quantized every time they are read.
    """
    free, usable = format_size(plan.free_bytes), format_size(int(WORKING_SHARE * plan.free_bytes))
    if plan.memory_bytes is not None and plan.must_convert:
        raise QuantizationError(
            f"{plan.name} is stored in {checkpoint.stored} and takes {format_size(plan.nbytes)} in "
            f"{plan.bits} bit, more than the {format_size(plan.memory_bytes)} allowed. Left on disk "
            f"it would be quantized again every time it is read: {plan.how_to_convert}."
        )
    if plan.fits:
        return
    if plan.memory_bytes is not None:
        raise QuantizationError(
            f"memory allows {format_size(plan.memory_bytes)}, and {plan.device} has {free} "
            f'free (a tenth is kept for running). Pass memory="auto", which takes {usable}.'
        )
    fitting = [
        f"bits={bits} ({smaller.nbytes / 1e9:.1f} GB)"
        for bits in (8, 4)
        if bits < plan.bits
        and not checkpoint.is_bitsandbytes
        and (smaller := make_plan(checkpoint, bits, plan.device)).fits
    ]
    advice = f"It would fit with {' or '.join(fitting)}." if fitting else (
        f"No precision here fits: it needs a device with {plan.nbytes / WORKING_SHARE / 1e9:.1f} GB "
        "free, or a smaller model."
    )  # fmt: skip
    streamed = (
        plan.how_to_convert
        if plan.must_convert
        else 'load it with memory="auto" (on the command line --memory auto)'
    )
    raise QuantizationError(
        f"{plan.name} in {plan.bits} bit needs {format_size(plan.nbytes)}, and {plan.device} has "
        f"{free} free (a tenth is kept for running). {advice} Or leave the weights on disk, "
        f"with at most {usable} of them in memory at a time: {streamed}."
    )


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


def format_table(frame: pd.DataFrame) -> str:
    """A plan's or a receipt's frame as text."""
    formats = {
        "parameters": "{:,}".format,
        "bytes": "{:,}".format,
        "kept_bytes": "{:,}".format,
        "quantized_share": "{:.1%}".format,
    }
    return frame.to_string(index=False, formatters={k: formats[k] for k in formats if k in frame})


def format_size(nbytes: int) -> str:
    """Bytes in the largest unit of which there is one: 7.90 GB, 224.26 KB."""
    unit, name = next(
        (unit, name)
        for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (0, "KB"))
        if nbytes >= unit
    )
    return f"{nbytes / (unit or 1e3):.2f} {name}"


def size_to_ask_for(nbytes: int) -> str:
    """A size that `size_in_bytes` reads, not below `nbytes`."""
    unit, name = (1e7, "GB") if nbytes >= 1e9 else (1e4, "MB") if nbytes >= 1e6 else (10, "KB")
    return f"{math.ceil(nbytes / unit) / 100:.2f}{name}"


def size_in_bytes(text: str | float) -> int:
    """Bytes of a size such as "8GB", "500 MB" or 2e9; decimal units.

    Raises
    ------
    QuantizationError
        If it is no size, or a number so small that its unit must have been forgotten.
    """
    match = re.fullmatch(r"\s*([\d.]+(?:e\+?\d+)?)\s*([KMGT]?)(B?)\s*", str(text), re.IGNORECASE)
    try:
        size = int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))
        if not size:
            raise ValueError("nothing")
    except (TypeError, ValueError, OverflowError) as error:
        raise QuantizationError(
            f"{text!r} is no size; expected for example 8GB or 500MB."
        ) from error
    if size < LEAST_BARE and not match[2] and not match[3]:
        raise QuantizationError(
            f"{text!r} has no unit and would be {size} bytes; write {match[1]}GB for gigabytes."
        )
    return size
