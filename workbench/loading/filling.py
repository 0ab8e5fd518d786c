"""From a checkpoint to a model: every module is filled from its own tensors, one after the other.

Nothing is held twice: a tensor is read, checked, quantized or packed, and put where it stays.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import bitsandbytes as bnb
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import GenerationConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workbench.checkpoints.ascend import check_linear
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.reading import (
    SAFETENSORS_NAMES,
    give_back_free_memory,
    read_ahead,
    read_rows,
    read_tensor,
)
from workbench.checkpoints.shards import TensorInfo, read_json
from workbench.errors import CheckpointError, QuantizationError
from workbench.linear.ascend_linear import (
    AscendLinear,
    StoredWeight,
    decode,
    fill_int8,
    replace_linears_as_stored,
    replace_shifted_norms,
    rounds_again,
)
from workbench.linear.float32_linear import BLOCK, cpu_multiplies_bfloat16, use_float32
from workbench.linear.quantization import (
    is_packable,
    pack,
    packed_scale_bytes,
    quantization_config,
    quantize,
    replace_linears,
    restore,
)
from workbench.loading.devices import device_of, devices_of, dispatch, placement
from workbench.loading.plan import (
    choose_quant_type,
    compute_dtype,
    expected_shapes,
    is_quantizable,
    kept_dtype,
)
from workbench.models import CLASSES
from workbench.models.empty import empty_modules

logger = logging.getLogger("workbench")
TRIM_BYTES = 200_000_000  # read before free memory is given back: it takes 4 to 8 ms
# What bitsandbytes stores beside a weight.
QUANTIZED_PART = re.compile(
    r"(.+)\.(?:weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state\.bitsandbytes__\w+)|SCB|weight_format)"
)


def load_model(
    checkpoint: Checkpoint,
    bits: int,
    device: str,
    quant_type: str | None = None,
    packed: bool = True,
) -> nn.Module:
    """Read, check and quantize a checkpoint module by module.

    Parameters
    ----------
    quant_type
        At 4 bits "nf4" or "fp4", both with double quantization; see `plan.choose_quant_type`.
    packed
        On a CPU, lay 4-bit weights out as bitsandbytes' fast path wants them. A packed model
        refuses `state_dict()`, because bitsandbytes cannot undo the packing exactly.

    Raises
    ------
    CheckpointError
        For a missing, additional, misshapen, NaN or infinite tensor.
    QuantizationError
        For another `quant_type`, or another one than a quantized file holds.
    """
    filler = Filler(checkpoint, bits, device, quant_type, packed)
    with tqdm(
        total=checkpoint.nbytes,
        unit="B",
        unit_scale=True,
        desc=f"loading {checkpoint.name}",
        delay=0.5,
    ) as bar:
        for module, following in zip_longest(filler.modules, filler.modules[1:]):
            read_ahead(filler.infos([following]) if following else [])
            filler.fill(module)
            bar.update(sum(info.nbytes for info in filler.infos([module])))
    give_back_free_memory()
    dispatch(filler.model, filler.places)
    return filler.model


def read_generation_config(file: Path) -> GenerationConfig:
    """How the model is meant to generate.

    Raises
    ------
    CheckpointError
        If the file cannot be understood.
    """
    read_json(file)
    try:
        return GenerationConfig.from_pretrained(file.parent)
    except Exception as error:  # transformers has no one class for all that can go wrong
        raise CheckpointError(
            f"{file} cannot be used ({type(error).__name__}: {error}); correct or remove it."
        ) from error


class Filler:
    """An empty model, and how each of its modules is filled from the checkpoint.

    Parameters
    ----------
    As `load_model`, and:

    own_modules
        Whether modules of our own may hold what Ascend's files store. Without them the model is
        what transformers' layout can hold: at 4 and 8 bits every linear module is bitsandbytes'.

    Attributes
    ----------
    model : torch.nn.Module
        In evaluation mode; on the meta device where it is not filled yet.
    places : dict of str to str
        Module name → device; see `workbench.loading.devices.placement`.
    modules : list of str
        Names of the modules that own tensors, in the order in which the files hold them.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        bits: int,
        device: str,
        quant_type: str | None,
        packed: bool,
        own_modules: bool = True,
    ) -> None:
        kind = choose_quant_type(checkpoint, quant_type)
        check_tensors(checkpoint)
        self.checkpoint, self.packed = checkpoint, packed
        self.dtype = compute_dtype(checkpoint, bits, torch.device(devices_of(device)[0]).type)
        with empty_modules():
            self.model = CLASSES[checkpoint.architecture](checkpoint.config)
        self.model.eval().requires_grad_(False)
        self.quantized: dict[str, nn.Module] = {}
        self.own_modules = own_modules
        as_stored = own_modules and checkpoint.stays_as_stored(bits)
        if not as_stored and rounds_again(checkpoint, bits):
            logger.warning(
                "%s stores its weights in %s; in %d bit they are rounded a second time.",
                checkpoint.name, checkpoint.stored, bits,
            )  # fmt: skip
        replace_shifted_norms(self.model, checkpoint)
        self.quant_type = "int8"
        if as_stored:
            self.quantized = replace_linears_as_stored(self.model, checkpoint)
        elif bits < 16:
            self.quant_type = kind if bits == 4 else "int8"
            self.quantized = replace_linears(self.model, bits, kind, self.dtype)
            self.model.config.quantization_config = quantization_config(bits, kind)
        if not cpu_multiplies_bfloat16():
            use_float32(self.model)
        self.places = placement(self.model, device, self.dtype, self.quantized, bits)
        self.model.model.rotary_emb = LlamaRotaryEmbedding(checkpoint.config).to(
            self.device_of("model.rotary_emb")
        )
        if (settings := checkpoint.path / "generation_config.json").is_file():
            self.model.generation_config = read_generation_config(settings)
        self._untrimmed = 0  # bytes read since free memory was given back
        self._tensors = tensors_by_module(checkpoint)
        self.modules = list(self._tensors)

    def device_of(self, module_name: str) -> str:
        """Where a module stands when it is filled."""
        return device_of(module_name, self.places)

    def infos(self, modules: Sequence[str]) -> list[TensorInfo]:
        """Where the tensors of these modules lie."""
        return [
            self.checkpoint.tensors[name]
            for module in modules
            for name in self._tensors[module].values()
        ]

    def parts(self, module: str) -> list[str]:
        """What a module holds in the file: "weight", "bias", "weight.absmax" …"""
        return list(self._tensors[module])

    def names(self, module: str) -> list[str]:
        """Full names of a module's tensors in the file."""
        return list(self._tensors[module].values())

    def held_bytes(self, module_name: str) -> int:
        """What a filled module holds in memory, at most, known before it is read."""
        in_float = self.float_parts(module_name)
        total = sum(count * kind.itemsize for count, kind in in_float.values())
        module = self.quantized.get(module_name)
        if module is None:
            return total
        infos = {
            part: self.checkpoint.tensors[name] for part, name in self._tensors[module_name].items()
        }
        if isinstance(module, AscendLinear):
            return total + sum(info.nbytes for part, info in infos.items() if part not in in_float)
        count = module.in_features * module.out_features
        if not isinstance(module, bnb.nn.Linear4bit):  # LLM.int8()
            return total + count + 4 * module.out_features
        total += (count + 1) // 2
        if is_packable(module, self.device_of(module_name), self.packed):
            return total + packed_scale_bytes(module)
        # In memory as in the file, but for the offset, which the file tells in words.
        tables = [
            part for part in infos if part.startswith("weight.") and "quant_state" not in part
        ]
        scales = sum(infos[part].nbytes for part in tables) + 4 * ("weight.nested_absmax" in infos)
        return total + (scales or count // 60 + 2048)  # from 16 bit: as double quantization makes

    def float_parts(self, module_name: str) -> dict[str, tuple[int, torch.dtype]]:
        """Numbers and type of what a filled module holds in float, by "weight", "bias" and so on."""
        parts = dict(self._tensors[module_name])
        module = self.model.get_submodule(module_name)
        linear_type = self.checkpoint.linear_types.get(module_name)
        if linear_type or module_name in self.quantized:
            parts = {part: name for part, name in parts.items() if part in ("weight", "bias")}
        if module_name in self.quantized:
            parts.pop("weight")
        if linear_type == "W8A8" and module.bias is not None:
            parts.setdefault("bias", f"{module_name}.quant_bias")
        told = {}
        for part, name in parts.items():
            info = self.checkpoint.tensors[name]
            count = torch.Size(info.shape).numel()
            if linear_type and part == "weight":  # perhaps two in a byte
                count = module.out_features * module.in_features
            told[part] = (count, kept_dtype(f"{module_name}.{part}", info.dtype, self.dtype))
        return told

    def empty(self, module_name: str) -> None:
        """Give a filled module's memory back; `fill` fills it again."""
        module = self.model.get_submodule(module_name)
        for leaf, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, bnb.nn.Params4bit):
                module.weight = bnb.nn.Params4bit(
                    parameter.data.to("meta"), requires_grad=False, quant_type=parameter.quant_type
                )
                module.quant_state = None
            elif isinstance(parameter, bnb.nn.Int8Params):
                module.weight = bnb.nn.Int8Params(parameter.data.to("meta"), requires_grad=False)
                module.state.CB = module.state.SCB = None  # where a forward pass put them
            else:
                setattr(module, leaf, nn.Parameter(parameter.to("meta"), requires_grad=False))
        if module_name == "model.embed_tokens" and self.checkpoint.config.tie_word_embeddings:
            self.model.lm_head.weight = module.weight

    def fill(self, module_name: str) -> None:
        """Read the tensors of one module and put them where they stay.

        Raises
        ------
        CheckpointError
            If a tensor holds NaN or infinity, or its quantization state is not whole.
        QuantizationError
            If the weights hold numbers that 8 bit cannot.
        """
        module, device = self.model.get_submodule(module_name), self.device_of(module_name)
        infos = {
            part: self.checkpoint.tensors[name] for part, name in self._tensors[module_name].items()
        }
        linear_type = self.checkpoint.linear_types.get(module_name)
        is_quantized = module_name in self.quantized
        as_stored = linear_type or (is_quantized and self.checkpoint.is_bitsandbytes)
        parts = {}
        for part, name in self._tensors[module_name].items():
            stored = infos.get("weight", infos[part]).dtype  # a bias as its weight
            kind = None if as_stored else kept_dtype(name, stored, self.dtype)
            parts[part] = read_tensor(name, infos[part], kind)
        if linear_type:
            parts = self._fill_from_ascend(
                module_name, module, decode(module_name, linear_type, parts)
            )
        elif is_quantized:
            if as_stored:
                restore(module, module_name, parts, device)
            else:
                quantize(module, module_name, parts["weight"], device)
            pack(module, self.packed)
            parts = {"bias": parts["bias"]} if "bias" in parts else {}
        for leaf, tensor in parts.items():
            kind = tensor.dtype
            if as_stored:
                stored = SAFETENSORS_NAMES[parts.get("weight", tensor).dtype]
                kind = kept_dtype(f"{module_name}.{leaf}", stored, self.dtype)
            setattr(module, leaf, nn.Parameter(tensor.to(device, kind), requires_grad=False))
        if module_name == "model.embed_tokens" and self.checkpoint.config.tie_word_embeddings:
            self.model.lm_head.weight = module.weight
        self._untrimmed += sum(info.nbytes for info in self.infos([module_name]))
        if self._untrimmed > TRIM_BYTES:
            self._untrimmed = 0
            give_back_free_memory()

    def _fill_from_ascend(
        self, name: str, module: nn.Module, stored: StoredWeight
    ) -> dict[str, torch.Tensor]:
        """Fill a module from what an Ascend checkpoint holds; returns what stays in float."""
        parts, device = {}, self.device_of(name)
        if isinstance(module, AscendLinear):
            module.fill(stored, device)
        elif isinstance(module, bnb.nn.Linear8bitLt) and stored.is_symmetric:
            fill_int8(module, stored, device)
        else:
            weight = stored.dequantized(module.in_features)
            if name in self.quantized:
                quantize(module, name, weight.to(self.dtype), device)
                pack(module, self.packed)
            else:
                parts["weight"] = weight
        if stored.bias is None or (module.bias is None and not stored.bias.any()):
            return parts
        if module.bias is None and not self.own_modules:
            if not stored.bias_is_rounding:
                raise QuantizationError(
                    f"{name} has a bias in {self.checkpoint.path} (in quant_bias), which the "
                    "model's plain layout has no place for. Load the checkpoint as it is, or "
                    "convert the 16-bit one it was made from."
                )
            return parts
        return parts | {"bias": stored.bias}


def tensors_by_module(checkpoint: Checkpoint) -> dict[str, dict[str, str]]:
    """Module name → what follows it ("weight", "bias", "weight.absmax" …) → tensor name.

    Modules come in the order in which the files hold their first tensor. A head that is tied to
    the embeddings is left out.
    """
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    for name, _ in sorted(
        checkpoint.tensors.items(), key=lambda item: (item[1].file, item[1].offset)
    ):
        module, mark, _ = name.partition(".weight.")  # parts of a quantized weight
        if not mark:
            module = name.rpartition(".")[0]
        if not (checkpoint.config.tie_word_embeddings and module == "lm_head"):
            modules[module][name.removeprefix(module + ".")] = name
    return dict(modules)


def check_tensors(checkpoint: Checkpoint) -> None:
    """Compare names, shapes and parts with the model's before anything is read.

    Raises
    ------
    CheckpointError
        For a missing, additional or misshapen tensor, and for a part of a quantized weight that
        is missing.
    """
    expected, found = expected_shapes(checkpoint), dict(checkpoint.tensors)
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
                "the two do not belong together."
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
            f"{missing[0]} is missing from {checkpoint.path}: without it {name} means nothing. "
            "Download the checkpoint again."
        )


def _and_more(names: list[str]) -> str:
    return f", and {len(names) - 1:,} more" if len(names) > 1 else ""
