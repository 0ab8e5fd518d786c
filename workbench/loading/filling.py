"""From a checkpoint to a model: every module is filled from its own tensors, one after the other.

Nothing is held twice: a tensor is read, checked, quantized or packed, and put where it stays.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import bitsandbytes as bnb
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import GenerationConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.reading import (
    SAFETENSORS_NAMES,
    give_back_free_memory,
    read_ahead,
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
from workbench.linear.float32_linear import cpu_multiplies_bfloat16, use_float32
from workbench.linear.quantization import (
    is_packable,
    pack,
    packed_scale_bytes,
    quantization_config,
    quantize,
    replace_linears,
    restore,
)
from workbench.loading.devices import device_of, dispatch, placement
from workbench.loading.plan import Plan
from workbench.models import CLASSES
from workbench.models.empty import empty_modules

logger = logging.getLogger("workbench")
TRIM_BYTES = 200_000_000  # read before free memory is given back: it takes 4 to 8 ms


def load_model(
    plan: Plan,
    packed: bool = True,
) -> nn.Module:
    """Read and quantize a checkpoint module by module, as planned and checked.

    Parameters
    ----------
    packed
        On a CPU, lay 4-bit weights out as bitsandbytes' fast path wants them. A packed model
        refuses `state_dict()`, because bitsandbytes cannot undo the packing exactly.

    Raises
    ------
    CheckpointError
        For a NaN or infinite tensor.
    QuantizationError
        If the weights hold numbers that 8 bit cannot.
    """
    filler, checkpoint = Filler(plan, packed), plan.checkpoint
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
    As `load_model`.

    Attributes
    ----------
    model : torch.nn.Module
        In evaluation mode; on the meta device where it is not filled yet.
    places : dict of str to str
        Module name → device; see `workbench.loading.devices.placement`.
    modules : list of str
        Names of the modules that own tensors, in the order in which the files hold them.
    """

    def __init__(self, plan: Plan, packed: bool = True) -> None:
        checkpoint, bits = plan.checkpoint, plan.bits
        self.plan, self.checkpoint, self.packed = plan, checkpoint, packed
        with empty_modules():
            self.model = CLASSES[checkpoint.architecture](checkpoint.config)
        self.model.eval().requires_grad_(False)
        self.quantized: dict[str, nn.Module] = {}
        if not plan.as_stored and rounds_again(checkpoint, bits):
            logger.warning(
                "%s stores its weights in %s; in %d bit they are rounded a second time.",
                checkpoint.name, checkpoint.stored, bits,
            )  # fmt: skip
        replace_shifted_norms(self.model, checkpoint)
        if plan.as_stored:
            self.quantized = replace_linears_as_stored(self.model, checkpoint)
        elif bits < 16:
            self.quantized = replace_linears(self.model, bits, plan.quant_type, plan.dtype)
            self.model.config.quantization_config = quantization_config(bits, plan.quant_type)
        if not cpu_multiplies_bfloat16():
            use_float32(self.model)
        self.places = placement(self.model, plan.device, plan.dtype, self.quantized, bits)
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
            told[part] = (count, self.plan.kept_dtype(f"{module_name}.{part}", info.dtype))
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
            kind = None if as_stored else self.plan.kept_dtype(name, stored)
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
                kind = self.plan.kept_dtype(f"{module_name}.{leaf}", stored)
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
                quantize(module, name, weight.to(self.plan.dtype), device)
                pack(module, self.packed)
            else:
                parts["weight"] = weight
        if stored.bias is None or (module.bias is None and not stored.bias.any()):
            return parts
        if module.bias is None and not self.plan.own_modules:
            if not stored.bias_is_rounding:
                raise QuantizationError(
                    f"{name} has a bias in {self.checkpoint.path} (in quant_bias), which the "
                    "model's standard layout cannot hold. Load the checkpoint as it is, or "
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
