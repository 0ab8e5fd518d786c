"""The plan, the 4- and 8-bit loading, and the receipt that says what was really done.

bitsandbytes quantizes `nn.Linear` modules one by one. This loader reads one tensor at a time,
quantizes it where it will stay, and on a CPU also packs it, so that the first prompt is fast.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pandas as pd
import psutil
import torch
from bitsandbytes.functional import QuantState, _convert_weight_packed_for_cpu
from safetensors import safe_open
from torch import nn
from tqdm.auto import tqdm
from transformers import BitsAndBytesConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workbench.checkpoint import Checkpoint, TensorInfo
from workbench.errors import CheckpointError, QuantizationError
from workbench.models import PanguEmbeddedForCausalLM, PanguProMoEForCausalLM

# LLM.int8() would say at every call that it casts bf16 to fp16.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

CLASSES = {"PanguProMoE": PanguProMoEForCausalLM, "PanguEmbedded": PanguEmbeddedForCausalLM}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
KEPT = ("mlp.gate", "lm_head")  # linear modules that are never quantized
INT8_THRESHOLD = 6.0  # LLM.int8(): inputs beyond this go through 16 bit
WORKING_SHARE = 0.9  # of the free memory that a model may take; the rest is for running it


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
    """

    frame: pd.DataFrame
    bits: int
    device: str
    free_bytes: int
    name: str

    @property
    def nbytes(self) -> int:
        """Bytes of the whole model in memory."""
        return int(self.frame["bytes"].sum())

    @property
    def fits(self) -> bool:
        """Whether the model leaves a tenth of the free memory for running it."""
        return self.nbytes <= WORKING_SHARE * self.free_bytes

    def __str__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        return (
            f"Plan for {self.name} in {self.bits} bit on {self.device}: "
            f"{self.nbytes / 1e9:.3f} GB of {self.free_bytes / 1e9:.1f} GB free: {verdict}.\n"
            + _table(self.frame)
        )

    def _repr_html_(self) -> str:
        return f"<pre>{self}</pre>"


@dataclass(frozen=True)
class Receipt:
    """What was loaded and how it is stored, counted on the loaded modules.

    Attributes
    ----------
    frame : pandas.DataFrame
        component, parameters, stored (for example "nf4 + bf16"), bytes, quantized_share (of the
        parameters, 0 to 1).
    """

    frame: pd.DataFrame
    bits: int
    device: str
    name: str

    @property
    def nbytes(self) -> int:
        """Bytes of all weights in memory."""
        return int(self.frame["bytes"].sum())

    @property
    def summary(self) -> dict[str, Any]:
        """The receipt as plain values, for a trace's header."""
        return {
            "bits": self.bits,
            "device": self.device,
            "bytes": self.nbytes,
            "stored": dict(zip(self.frame["component"], self.frame["stored"], strict=True)),
        }

    def __str__(self) -> str:
        parameters = int(self.frame["parameters"].sum())
        return (
            f"{self.name} in {self.bits} bit on {self.device}: {parameters:,} parameters, "
            f"{self.nbytes / 1e9:.3f} GB\n" + _table(self.frame)
        )

    def _repr_html_(self) -> str:
        head, _, _ = str(self).partition("\n")
        shown = self.frame.style.format(
            {"parameters": "{:,}", "bytes": "{:,}", "quantized_share": "{:.1%}"}
        ).hide(axis="index")
        return f"<p>{head}</p>{shown.to_html()}"


def _table(frame: pd.DataFrame) -> str:
    formats = {
        "parameters": "{:,}".format,
        "bytes": "{:,}".format,
        "quantized_share": "{:.1%}".format,
    }
    return frame.to_string(index=False, formatters={k: formats[k] for k in formats if k in frame})


def is_quantizable(name: str) -> bool:
    """Whether a tensor is the weight of a linear module that 4 and 8 bit quantize."""
    return name.endswith("_proj.weight")


def compute_dtype(checkpoint: Checkpoint, bits: int, device: str) -> torch.dtype:
    """The type of activations and of all that is not quantized.

    As stored; but fp16 becomes bf16 on a CPU, where fp16 is 16 times slower, and a quantized
    model computes in bf16.
    """
    if bits < 16:
        return torch.bfloat16
    dtype = DTYPES[checkpoint.stored]
    return torch.bfloat16 if dtype is torch.float16 and device == "cpu" else dtype


def choose_bits(checkpoint: Checkpoint, bits: int | None) -> int:
    """The precision to load: what is asked for, or what a quantized file holds, or 4.

    Raises
    ------
    QuantizationError
        For bits other than 4, 8 and 16, or other bits than a quantized file holds.
    """
    if bits is None:
        return checkpoint.stored_bits if checkpoint.stored_bits < 16 else 4
    if bits not in (4, 8, 16):
        raise QuantizationError(f"bits is {bits!r}; expected 4, 8 or 16.")
    if checkpoint.stored_bits < 16 and bits != checkpoint.stored_bits:
        raise QuantizationError(
            f"{checkpoint.name} is already quantized to {checkpoint.stored} and cannot be loaded in "
            f"{bits} bit. Load it with bits={checkpoint.stored_bits}, or pass the 16-bit checkpoint."
        )
    return bits


def make_plan(checkpoint: Checkpoint, bits: int, device: str = "auto") -> Plan:
    """Bytes that each component will take at `bits`, and what the machine has free.

    Parameters
    ----------
    device
        "cpu", "cuda", "cuda:1" and so on, or "auto": the first CUDA device if there is one.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise QuantizationError(f"device is {device!r}; expected auto, cpu or cuda.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise QuantizationError('device is "cuda", and this machine has none; use device="cpu".')
    if kind not in ("cpu", "cuda"):
        raise QuantizationError(f"device is {device!r}; only cpu and cuda are supported.")
    free = (
        torch.cuda.mem_get_info(device)[0] if kind == "cuda" else psutil.virtual_memory().available
    )
    width = compute_dtype(checkpoint, bits, kind).itemsize
    parameters, sizes = defaultdict(int), defaultdict(int)
    for name, shape in _expected_shapes(checkpoint).items():
        count = torch.Size(shape).numel()
        component = component_of(name)
        parameters[component] += count
        if bits == 4 and is_quantizable(name):
            # half a byte, and per block of 64 a scale: 2 bytes packed on a CPU, else 1 and a bit
            sizes[component] += count // 2 + (count // 32 if kind == "cpu" else count // 64)
        elif bits == 8 and is_quantizable(name):
            sizes[component] += count + 4 * shape[0]
        else:
            sizes[component] += count * width
    frame = pd.DataFrame(
        {"component": list(sizes), "parameters": list(parameters.values()), "bytes": sizes.values()}
    )
    return Plan(frame, bits, device, int(free), checkpoint.name)


def require_fit(plan: Plan, checkpoint: Checkpoint) -> None:
    """Raise, naming what would fit, if the plan does not."""
    if plan.fits:
        return
    fitting = [
        f"bits={bits} ({smaller.nbytes / 1e9:.1f} GB)"
        for bits in (8, 4)
        if bits < plan.bits
        and checkpoint.stored_bits == 16
        and (smaller := make_plan(checkpoint, bits, plan.device)).fits
    ]
    advice = f"It would fit with {' or '.join(fitting)}." if fitting else (
        f"No precision here fits: it needs a device with {plan.nbytes / WORKING_SHARE / 1e9:.1f} GB "
        "free, or a smaller model."
    )  # fmt: skip
    raise QuantizationError(
        f"{plan.name} in {plan.bits} bit needs {plan.nbytes / 1e9:.1f} GB, and {plan.device} has "
        f"{plan.free_bytes / 1e9:.1f} GB free (a tenth is kept for running). {advice}"
    )


def load_model(
    checkpoint: Checkpoint, bits: int, device: str, quant_type: str = "nf4", pack: bool = True
) -> nn.Module:
    """Read, check and quantize a checkpoint tensor by tensor.

    Parameters
    ----------
    quant_type
        "nf4" (with double quantization) or "fp4"; used at 4 bits from a 16-bit checkpoint.
    pack
        On a CPU, lay 4-bit weights out as bitsandbytes' fast path wants them. A packed model
        refuses `state_dict()`, because bitsandbytes cannot undo the packing exactly.

    Raises
    ------
    CheckpointError
        For a missing, additional, misshapen, NaN or infinite tensor.
    QuantizationError
        If an expert could not be quantized.
    """
    if quant_type not in ("nf4", "fp4"):
        raise QuantizationError(f"quant_type is {quant_type!r}; expected 'nf4' or 'fp4'.")
    _check_tensors(checkpoint)
    dtype = compute_dtype(checkpoint, bits, torch.device(device).type)
    with torch.device("meta"):
        model = CLASSES[checkpoint.architecture](checkpoint.config)
    model.eval()
    quantized = {}
    if bits < 16:
        quant_type = checkpoint.stored if checkpoint.stored in ("nf4", "fp4") else quant_type
        quantized = _replace_linears(model, bits, quant_type, dtype)
        model.config.quantization_config = _quantization_config(bits, quant_type)
    extras: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)  # of a file quantized before
    waiting: dict[str, torch.Tensor] = {}
    with tqdm(
        total=checkpoint.nbytes,
        unit="B",
        unit_scale=True,
        desc=f"loading {checkpoint.name}",
        delay=0.5,
    ) as bar:
        for name, tensor in _read(checkpoint):
            module_name, _, leaf = name.rpartition(".")
            owner = name.partition(".weight.")[0] if ".weight." in name else module_name
            if checkpoint.stored_bits < 16 and owner in quantized:
                if name == f"{owner}.weight":
                    waiting[owner] = tensor
                elif leaf == "bias":
                    _set(model, name, tensor.to(device, dtype))
                else:
                    extras[owner][name] = tensor
            elif owner in quantized and leaf == "weight":
                _quantize(quantized[owner], tensor.to(dtype), device)
                _pack(quantized[owner], pack)
            else:
                _set(model, name, tensor.to(device, dtype))
            bar.update(checkpoint.tensors[name].nbytes)
        for owner, weight in waiting.items():
            _restore(quantized[owner], weight, extras[owner], owner, device)
            _pack(quantized[owner], pack)
    if checkpoint.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.model.rotary_emb = LlamaRotaryEmbedding(checkpoint.config).to(device)
    model.requires_grad_(False)
    generation_config = checkpoint.path / "generation_config.json"
    if generation_config.is_file():
        model.generation_config = model.generation_config.from_pretrained(checkpoint.path)
    return model


def make_receipt(model: nn.Module, bits: int, device: str, name: str) -> Receipt:
    """Count what every module really holds.

    Raises
    ------
    QuantizationError
        If a routed or shared expert is not quantized although `bits` says so.
    """
    parameters, sizes, share = defaultdict(int), defaultdict(int), defaultdict(int)
    kinds: dict[str, list[str]] = defaultdict(list)
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            full_name = f"{module_name}.{leaf}"
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            component = component_of(full_name)
            count, size, kind = _count(module, leaf, parameter)
            parameters[component] += count
            sizes[component] += size
            if kind in ("nf4", "fp4", "int8"):
                share[component] += count
            elif bits < 16 and is_quantizable(full_name):
                raise QuantizationError(
                    f"{full_name} stayed in {kind} although {bits} bit was asked for."
                )
            if kind not in kinds[component]:
                kinds[component].append(kind)
    frame = pd.DataFrame(
        {
            "component": list(parameters),
            "parameters": list(parameters.values()),
            "stored": [" + ".join(kinds[component]) for component in parameters],
            "bytes": list(sizes.values()),
            "quantized_share": [share[c] / parameters[c] for c in parameters],
        }
    )
    return Receipt(frame, bits, device, name)


# -- inside -------------------------------------------------------------------------------------


def _expected_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = CLASSES[checkpoint.architecture](checkpoint.config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if checkpoint.config.tie_word_embeddings:
        shapes.pop("lm_head.weight")
    return shapes


def _check_tensors(checkpoint: Checkpoint) -> None:
    """Compare names and shapes with the model's before anything is read."""
    expected = _expected_shapes(checkpoint)
    found = dict(checkpoint.tensors)
    if checkpoint.config.tie_word_embeddings:
        found.pop("lm_head.weight", None)
    if missing := sorted(expected.keys() - found.keys()):
        raise CheckpointError(
            f"{missing[0]} is missing from {checkpoint.path}{_and_more(missing)}. Expected "
            f"{len(expected):,} tensors, found {len(found):,}. Download the checkpoint again, or "
            "correct config.json if it belongs to another model."
        )
    for name in expected:
        info = found.pop(name)
        if checkpoint.stored_bits < 16 and info.dtype in ("U8", "I8"):
            continue  # packed; its true shape stands in its quantization state
        if info.shape != expected[name]:
            raise CheckpointError(
                f"{name} has shape {list(info.shape)}, expected {list(expected[name])} by config.json; "
                "the two do not belong together."
            )
    if checkpoint.stored_bits < 16:
        found = {
            name: info
            for name, info in found.items()
            if not (
                name.partition(".weight.")[0] + ".weight" in expected
                or name.endswith((".SCB", ".weight_format"))
            )
        }
    if found:
        extra = sorted(found)
        raise CheckpointError(
            f"{extra[0]} is in {checkpoint.path} and not in the model{_and_more(extra)}. A model that "
            "needs it is not the one config.json describes; correct config.json or remove the tensor."
        )


def _and_more(names: list[str]) -> str:
    return f", and {len(names) - 1:,} more" if len(names) > 1 else ""


def _read(checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor, file by file; what is not finite is refused."""
    files: dict[Path, list[tuple[str, TensorInfo]]] = defaultdict(list)
    for name, info in checkpoint.tensors.items():
        files[info.file].append((name, info))
    tied = checkpoint.config.tie_word_embeddings
    for file, entries in files.items():
        with safe_open(file, framework="pt", device="cpu") as handle:
            for name, info in entries:
                if tied and name == "lm_head.weight":
                    continue
                tensor = handle.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise CheckpointError(
                        f"{name} in {info.file.name} holds NaN or infinity; the file is damaged. "
                        "Download it again."
                    )
                yield name, tensor


def _set(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    module_name, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module_name), leaf, nn.Parameter(tensor, requires_grad=False))


def _replace_linears(
    model: nn.Module, bits: int, quant_type: str, dtype: torch.dtype
) -> dict[str, nn.Module]:
    """Put bitsandbytes modules in the place of every linear one that is quantized."""
    replaced = {}
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear or name.endswith(KEPT):
            continue
        has_bias = module.bias is not None
        with torch.device("meta"):
            if bits == 4:
                new = bnb.nn.Linear4bit(
                    module.in_features,
                    module.out_features,
                    has_bias,
                    compute_dtype=dtype,
                    compress_statistics=True,
                    quant_type=quant_type,
                )
            else:
                new = bnb.nn.Linear8bitLt(
                    module.in_features,
                    module.out_features,
                    has_bias,
                    has_fp16_weights=False,
                    threshold=INT8_THRESHOLD,
                )
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, new.eval())
        replaced[name] = new
    return replaced


def _quantization_config(bits: int, quant_type: str) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_threshold=INT8_THRESHOLD,
        llm_int8_skip_modules=list(KEPT),
    )


def _quantize(module: nn.Module, weight: torch.Tensor, device: str) -> None:
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
        module.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False).to(
            device
        )


def _restore(
    module: nn.Module,
    weight: torch.Tensor,
    extras: dict[str, torch.Tensor],
    name: str,
    device: str,
) -> None:
    """Take over a weight that the file holds quantized."""
    try:
        if isinstance(module, bnb.nn.Linear4bit):
            module.weight = bnb.nn.Params4bit.from_prequantized(
                weight, quantized_stats=extras, device=device, module=module
            )
            shape = tuple(module.weight.quant_state.shape)
        else:
            module.weight = bnb.nn.Int8Params(
                weight.to(device),
                requires_grad=False,
                has_fp16_weights=False,
                CB=weight.to(device),
                SCB=extras[f"{name}.SCB"].to(device),
            )
            shape = tuple(weight.shape)
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{name}.weight lacks parts of its quantization state ({error}); download it again."
        ) from error
    if shape != (module.out_features, module.in_features):
        raise CheckpointError(
            f"{name}.weight has shape {list(shape)}, expected "
            f"{[module.out_features, module.in_features]} by config.json."
        )


def _pack(module: nn.Module, wanted: bool) -> None:
    """Lay a 4-bit weight out for the CPU now, which bitsandbytes would do in the first prompt."""
    if not isinstance(module, bnb.nn.Linear4bit) or module.weight.device.type != "cpu":
        return
    if not wanted or module.out_features % 32 or module.in_features % 64:
        module.support_avx512bf16_for_cpu = False  # the plain path: slower, any shape, not packed
    if not module.support_avx512bf16_for_cpu:
        return
    state: QuantState = module.weight.quant_state
    module.weight.data, module.weight.quant_state = _convert_weight_packed_for_cpu(
        module.weight.data, state
    )
    module.quant_state = module.weight.quant_state
    module.register_state_dict_pre_hook(_refuse_state_dict)


def _refuse_state_dict(*_: Any) -> None:
    raise QuantizationError(
        "This 4-bit model is packed for the CPU and cannot give its weights back exactly. "
        "Save it with pangu.save(folder), which quantizes the source checkpoint again."
    )


def _count(module: nn.Module, leaf: str, parameter: nn.Parameter) -> tuple[int, int, str]:
    """Parameters, bytes in memory, and the name of the storage."""
    size = parameter.numel() * parameter.element_size()
    if leaf == "weight" and isinstance(module, bnb.nn.Linear4bit):
        state = parameter.quant_state
        size += state.absmax.numel() * state.absmax.element_size()
        if state.nested:
            size += state.state2.absmax.numel() * state.state2.absmax.element_size()
        return module.in_features * module.out_features, size, state.quant_type
    if leaf == "weight" and isinstance(module, bnb.nn.Linear8bitLt):
        if parameter.dtype != torch.int8:
            return parameter.numel(), size, str(parameter.dtype).removeprefix("torch.")
        return parameter.numel(), size + 4 * module.out_features, "int8"
    names = {dtype: name for name, dtype in DTYPES.items()}
    return parameter.numel(), size, names.get(parameter.dtype, str(parameter.dtype))
