"""Opens a checkpoint safely and says what it is, before any weight is read.

Safetensors only: pickled weights are refused, and Python code that comes with a checkpoint is
never run.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.checkpoints import ascend, hub
from workbench.checkpoints.shards import TensorInfo, read_json, tensors_in
from workbench.errors import CheckpointError

DEMO_FOLDER = Path(__file__).parents[1] / "demo" / "checkpoints"
DEMOS = ("demo", "demo-dense")
SUPPORTED = {"PanguProMoE": "Pangu Pro MoE", "PanguEmbedded": "openPangu-Embedded"}
# What is recognised and not supported, by a part of its name, each with the reason.
NOT_SUPPORTED = {
    "promoev2": "Pangu Pro MoE V2 (openPangu-R-72B) has fused biasless projections, learned sink "
    "tokens and a sigmoid router without groups",
    "ultra": "openPangu-Ultra-MoE has multi-head latent attention and a sigmoid router",
    "panguv2": "openPangu 2.0 has multi-head latent attention with sparse and sliding layers",
    "pangu": "this architecture is not implemented",
}
NEEDED_KEYS = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads "
    "max_position_embeddings rope_theta rms_norm_eps"
).split()
NEEDED_KEYS_OF = {
    "PanguProMoE": "num_experts num_experts_per_tok moe_intermediate_size "
    "shared_expert_intermediate_size",
    "PanguEmbedded": "intermediate_size",
}
STORED_NAMES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
IGNORED = re.compile(r"rotary_emb\.inv_freq$|module|kv_cache_offset$")
JOURNAL = "unfinished_conversion.json"  # stands in a folder while `conversion` writes there
logger = logging.getLogger("workbench")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose headers have been read and found sound.

    Attributes
    ----------
    name : str
        What the user called it.
    path : Path
        The folder.
    config : transformers.PretrainedConfig
        One of `workbench.models`.
    tensors : dict of str to TensorInfo
        Every tensor of the model, as stored; what the model does not use is left out.
    stored : str
        "bf16", "fp16", "fp32"; for a file quantized by bitsandbytes "nf4", "fp4" or "int8"; for
        one quantized by msmodelslim the types of its linear modules, for example "w8a8 + w8a16".
    remote : bool
        Whether the weights are still on the hub; `fetched` downloads them.
    linear_types : dict of str to str
        Of a file quantized by msmodelslim: the quantized linear modules and their types.
    """

    name: str
    path: Path
    config: Any
    tensors: Mapping[str, TensorInfo]
    stored: str
    remote: bool = False
    linear_types: Mapping[str, str] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The checkpoint's `model_type`."""
        return self.config.model_type

    @property
    def stored_bits(self) -> int:
        """4 or 8 for a quantized file (4 where any linear module has 4), else 16."""
        if self.linear_types:
            return min(ascend.BITS[kind] for kind in self.linear_types.values())
        return {"nf4": 4, "fp4": 4, "int8": 8}.get(self.stored, 16)

    def stays_as_stored(self, bits: int) -> bool:
        """Whether at `bits` Ascend's linear modules are loaded as the file holds them."""
        return bool(self.linear_types) and bits == self.stored_bits

    @property
    def linears_in_float(self) -> set[str]:
        """Weights of linear modules that an Ascend file holds in float beside quantized ones."""
        weights = (name for name in self.tensors if name.endswith("_proj.weight"))
        return {name for name in weights if name.removesuffix(".weight") not in self.linear_types}

    @property
    def is_bitsandbytes(self) -> bool:
        """Whether the file is quantized by bitsandbytes, and cannot be had in other bits."""
        return self.stored in ("nf4", "fp4", "int8")

    @property
    def float_type(self) -> str:
        """The type of what is not quantized: "bf16", "fp16" or "fp32"."""
        if self.is_bitsandbytes or not self.linear_types:
            return "bf16" if self.is_bitsandbytes else self.stored
        weights = {name: info for name, info in self.tensors.items() if name.endswith(".weight")}
        return _main_float_type(weights)

    @property
    def nbytes(self) -> int:
        """Size of all tensors on disk."""
        return sum(info.nbytes for info in self.tensors.values())

    def fetched(self) -> Checkpoint:
        """The same checkpoint with its weights on this machine; downloads them where needed."""
        if not self.remote:
            return self
        hub.fetch_weights(self.name, self.path)
        description = ascend.read_description(self.path, read_json(self.path / "config.json"))
        tensors, types = _understood(self.path, tensors_in(self.path), description)
        return replace(self, tensors=tensors, linear_types=types, remote=False)

    def __str__(self) -> str:
        config = self.config
        lines = [
            f"{self.name}: {SUPPORTED[self.architecture]} ({self.architecture})",
            f"  {config.num_hidden_layers} layers, hidden size {config.hidden_size}, "
            f"{config.num_attention_heads} query heads and {config.num_key_value_heads} key heads",
        ]
        if self.architecture == "PanguProMoE":
            lines.append(
                f"  {config.num_experts} experts in {config.num_groups} groups, one of each group "
                "for every token, and a shared expert"
            )
        where = ", on the hub" if self.remote else ""
        lines.append(
            f"  stored as {self.stored}: {len(self.tensors):,} tensors, "
            f"{self.nbytes / 1e9:.3f} GB{where}"
        )
        return "\n".join(lines)


def open_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Find a checkpoint and read its config and its files' headers.

    Parameters
    ----------
    name_or_path
        "demo" or "demo-dense", a folder, or the id of a Hugging Face repository. Of a repository
        only the config, the tokenizer and the headers are fetched; `Checkpoint.fetched` fetches
        the safetensors files.

    Raises
    ------
    CheckpointError
        In plain words, for whatever is missing, damaged, unsafe or not supported.
    """
    name = str(name_or_path)
    folder = _local_folder(name)
    path = folder or hub.fetch_description(name)
    if not (path / "config.json").is_file():
        if (path / JOURNAL).is_file():
            raise CheckpointError(
                f"{path} holds a conversion that was not finished; run the same "
                "`python -m workbench quantize` again to finish it."
            )
        raise CheckpointError(
            f"{path / 'config.json'} is missing, so {name!r} does not contain a model's checkpoint; "
            "download it again or check the path."
        )
    values = read_json(path / "config.json")
    description = ascend.read_description(path, values)
    if description is not None:
        values = {key: value for key, value in values.items() if key not in ascend.CONFIG_KEYS}
    config = _configuration(values, path)
    tensors = tensors_in(path) if folder else hub.remote_tensors(name, path)
    tensors, types = _understood(path, tensors, description)
    if types:
        stored = " + ".join(sorted({kind.lower() for kind in types.values()}))
    else:
        stored = _stored(values, tensors, path)
    return Checkpoint(name, path, config, tensors, stored, folder is None, types)


def _understood(
    path: Path, tensors: Mapping[str, TensorInfo], description: Mapping[str, Any] | None
) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The tensors that the model uses, and the types of Ascend's linear modules."""
    types: dict[str, str] = {}
    if description is not None:
        tensors, types = ascend.arranged(tensors, description, path)
    return {name: info for name, info in tensors.items() if not IGNORED.search(name)}, types


def _local_folder(name: str) -> Path | None:
    """The folder that is meant, or None for the id of a repository on the hub."""
    if name in DEMOS:
        return DEMO_FOLDER / name
    try:
        path = Path(name).expanduser()
        if name and path.is_dir():
            return path
        is_file = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such home, a zero byte
        raise CheckpointError(f"{name!r} is not a path ({error}).") from error
    if is_file:
        raise CheckpointError(f"{path} is a file; pass the folder that holds config.json.")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or (
        path.parent.is_dir() and str(path.parent) != "."
    ):
        raise CheckpointError(
            f"{name!r} is not a folder here. Pass a checkpoint's folder, a Hugging Face repository as "
            f'"owner/name", or one of {", ".join(DEMOS)}.'
        )
    return None


def _configuration(values: dict[str, Any], path: Path) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    from workbench.models import PanguEmbeddedConfig, PanguProMoEConfig

    model_type, architectures = values.get("model_type"), values.get("architectures")
    named = architectures if isinstance(architectures, list) else [architectures]
    names = [str(name) for name in (model_type, *named) if name]
    _refuse_other_models(names, model_type, path)
    if not isinstance(quantization := values.get("quantization_config") or {}, dict):
        raise CheckpointError(
            f"{path / 'config.json'} says quantization_config={quantization!r}; expected an "
            "object. Download it again."
        )
    keys = set(values)
    if isinstance(values.get("rope_parameters"), dict):  # as transformers writes it
        keys |= set(values["rope_parameters"])
    needed = [*NEEDED_KEYS, *NEEDED_KEYS_OF[model_type].split()]
    if missing := [key for key in needed if key not in keys]:
        raise CheckpointError(
            f"config.json of {path} lacks {', '.join(missing)}, which its maths depends on. "
            "Download it again; the released files have them."
        )
    if values.get("auto_map"):
        logger.warning(
            "%s refers to its own Python code (auto_map), which is ignored and never run.",
            path.name,
        )
    config_class = {"PanguProMoE": PanguProMoEConfig, "PanguEmbedded": PanguEmbeddedConfig}[
        model_type
    ]
    try:
        return config_class.from_dict({k: v for k, v in values.items() if k != "auto_map"})
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path / 'config.json'} cannot be used: {reason}. Download it again."
        ) from error


def _refuse_other_models(names: list[str], model_type: Any, path: Path) -> None:
    """Raise unless the config names a model that is supported."""
    plain = [
        re.sub(r"[^a-z0-9]|forcausallm$", "", name.lower()).replace("openpangu", "pangu")
        for name in names
    ]
    supported = ", ".join(f"{title} ({name})" for name, title in SUPPORTED.items())
    if all(name in {key.lower() for key in SUPPORTED} for name in plain) and model_type in [
        *SUPPORTED
    ]:
        return
    for mark, reason in NOT_SUPPORTED.items():
        if any("pangu" in name and mark in name for name in plain):
            raise CheckpointError(
                f"{path} holds {', '.join(names)}: {reason}. It is a Pangu model that is not "
                f"supported yet; supported are {supported}."
            )
    raise CheckpointError(
        f"{path} holds a model of type {model_type!r} ({', '.join(names[1:]) or 'no architecture named'}), "
        f"not a Pangu model. Supported are {supported}."
    )


def _stored(values: dict[str, Any], tensors: Mapping[str, TensorInfo], path: Path) -> str:
    quantization = values.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method")
        if method in ("bitsandbytes", "bitsandbytes_4bit") and (
            quantization.get("load_in_4bit") or quantization.get("_load_in_4bit")
        ):
            quant_type = quantization.get("bnb_4bit_quant_type", "fp4")
            if quant_type not in ("nf4", "fp4"):
                raise CheckpointError(
                    f"{path} is quantized to {quant_type!r}; expected nf4 or fp4."
                )
            return quant_type
        if method in ("bitsandbytes", "bitsandbytes_8bit") and (
            quantization.get("load_in_8bit") or quantization.get("_load_in_8bit")
        ):
            return "int8"
        raise CheckpointError(
            f"{path} is quantized by {method!r}, which is not supported. Expected a 16-bit "
            "checkpoint, or one quantized by bitsandbytes in 4 or 8 bit."
        )
    kinds = {info.dtype for info in tensors.values()}
    if unknown := kinds - STORED_NAMES.keys():
        raise CheckpointError(
            f"{path} holds tensors of type {', '.join(sorted(unknown))} and no quantization_config "
            "that says what they mean. Expected F32, F16 or BF16."
        )
    return _main_float_type(tensors)


def _main_float_type(tensors: Mapping[str, TensorInfo]) -> str:
    """The type of most of the bytes."""
    totals = dict.fromkeys(STORED_NAMES, 0)
    for info in tensors.values():
        if info.dtype in totals:
            totals[info.dtype] += info.nbytes
    return STORED_NAMES[max(totals, key=totals.__getitem__)]
