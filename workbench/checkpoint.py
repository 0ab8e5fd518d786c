"""Opens a checkpoint safely and says what it is, before any weight is read.

Safetensors only: pickled weights are refused, and Python code that comes with a checkpoint is
never run.
"""

from __future__ import annotations

import json
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError

DEMO_FOLDER = Path(__file__).parent / "demo" / "checkpoints"
DEMOS = ("demo", "demo-dense")
SUPPORTED = {"PanguProMoE": "Pangu Pro MoE", "PanguEmbedded": "openPangu-Embedded"}
# What is recognised and not supported, each with the reason.
NOT_SUPPORTED = {
    "PanguProMoEV2": "Pangu Pro MoE V2 (openPangu-R-72B) has fused biasless projections, learned "
    "sink tokens and a sigmoid router without groups",
    "PanguUltraMoE": "openPangu-Ultra-MoE has multi-head latent attention and a sigmoid router",
    "openpangu_v2": "openPangu 2.0 has multi-head latent attention with sparse and sliding layers",
}
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1
}  # fmt: skip
STORED_NAMES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
IGNORED = re.compile(r"rotary_emb\.inv_freq$|module|kv_cache_offset$")


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: its file, safetensors type name, shape, and size in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk whose headers have been read and found sound.

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
        "bf16", "fp16", "fp32", or for a file quantized by bitsandbytes "nf4", "fp4" or "int8".
    """

    name: str
    path: Path
    config: Any
    tensors: Mapping[str, TensorInfo]
    stored: str

    @property
    def architecture(self) -> str:
        """The checkpoint's `model_type`."""
        return self.config.model_type

    @property
    def stored_bits(self) -> int:
        """4 or 8 for a file quantized by bitsandbytes, else 16."""
        return {"nf4": 4, "fp4": 4, "int8": 8}.get(self.stored, 16)

    @property
    def nbytes(self) -> int:
        """Size of all tensors on disk."""
        return sum(info.nbytes for info in self.tensors.values())

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
        lines.append(
            f"  stored as {self.stored}: {len(self.tensors):,} tensors, {self.nbytes / 1e9:.3f} GB"
        )
        return "\n".join(lines)


def open_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Find a checkpoint and read its config and its files' headers.

    Parameters
    ----------
    name_or_path
        "demo" or "demo-dense", a folder, or the id of a Hugging Face repository, of which only
        safetensors, JSON and tokenizer files are downloaded.

    Raises
    ------
    CheckpointError
        In plain words, for whatever is missing, damaged, unsafe or not supported.
    """
    path = _locate(name_or_path)
    values = _read_json(path / "config.json", "no checkpoint of a model")
    config = _configuration(values, path)
    return Checkpoint(
        name=str(name_or_path),
        path=path,
        config=config,
        tensors=(tensors := _tensor_infos(path)),
        stored=_stored(values, tensors, path),
    )


def _locate(name_or_path: str | Path) -> Path:
    name = str(name_or_path)
    if name in DEMOS:
        return DEMO_FOLDER / name
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise CheckpointError(f"{path} is a file; pass the folder that holds config.json.")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or (
        path.parent.is_dir() and str(path.parent) != "."
    ):
        raise CheckpointError(
            f"{name} is no folder here. Pass a checkpoint's folder, a Hugging Face repository as "
            f'"owner/name", or one of {", ".join(DEMOS)}.'
        )
    return _download(name)


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=["*.safetensors", "*.json", "tokenizer.model"]
            )
        )
    except Exception as error:  # the hub's library has no one class for all that can go wrong
        raise CheckpointError(
            f"{repository} is no folder here and could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200]}). Check the name and the "
            "network, or download the checkpoint and pass its folder."
        ) from error


def _read_json(file: Path, otherwise: str) -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(
            f"{file} is missing, so {file.parent} holds {otherwise}; download it again or check the path."
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON ({error}); download it again.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} holds no JSON object; download it again.")
    return values


def _configuration(values: dict[str, Any], path: Path) -> Any:
    from workbench.models import PanguEmbeddedConfig, PanguProMoEConfig

    model_type = values.get("model_type")
    architectures = values.get("architectures") or []
    known_names = [
        str(model_type),
        *(str(name).removesuffix("ForCausalLM") for name in architectures),
    ]
    for key, reason in NOT_SUPPORTED.items():
        if any(name.lower().replace("-", "_") == key.lower() for name in known_names):
            raise CheckpointError(
                f"{path} is a {known_names[-1]} model: {reason}. It is not supported yet; "
                f"supported are {', '.join(f'{title} ({name})' for name, title in SUPPORTED.items())}."
            )
    if model_type not in SUPPORTED:
        raise CheckpointError(
            f"{path} holds a model of type {model_type!r} ({', '.join(architectures) or 'no architecture named'}), "
            f"not a Pangu model. Supported are {', '.join(SUPPORTED)}."
        )
    if (path / "quant_model_description.json").exists() or list(
        path.glob("quant_model_descr*.json")
    ):
        raise CheckpointError(
            f"{path} was quantized by msmodelslim for Ascend, which is not supported yet. "
            "Pass the 16-bit checkpoint it was made from; it is quantized while loading."
        )
    if values.get("auto_map"):
        warnings.warn(
            f"{path.name} names Python code of its own (auto_map); it is ignored and never run.",
            stacklevel=4,
        )
    config_class = {"PanguProMoE": PanguProMoEConfig, "PanguEmbedded": PanguEmbeddedConfig}[
        model_type
    ]
    try:
        return config_class.from_dict({k: v for k, v in values.items() if k != "auto_map"})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path / 'config.json'} cannot be used: {error}") from error


def _tensor_infos(path: Path) -> dict[str, TensorInfo]:
    index_file = path / "model.safetensors.index.json"
    pickled = sorted(file.name for kind in ("*.bin", "*.pt", "*.pth") for file in path.glob(kind))
    if index_file.is_file():
        weight_map = _read_json(index_file, "no sound checkpoint").get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index_file} has no weight_map; download it again.")
        files = sorted({path / str(name) for name in weight_map.values()})
        for file in files:
            if file.parent != path or not file.is_file():
                raise CheckpointError(
                    f"{file.name} is missing from {path}: {index_file.name} names {len(files)} files. "
                    "Download it again."
                )
    elif (path / "model.safetensors").is_file():
        weight_map, files = None, [path / "model.safetensors"]
    elif pickled:
        raise CheckpointError(
            f"{path} holds only pickled weights ({', '.join(pickled[:3])}), which can run any code "
            "when they are opened; they are refused. Pass a checkpoint with .safetensors files, "
            "or convert it to safetensors on a machine where you trust it."
        )
    else:
        raise CheckpointError(
            f"{path} holds no weights: expected model.safetensors, or model.safetensors.index.json "
            "and the files it names. Download them again."
        )
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        for name, info in _read_header(file).items():
            if not IGNORED.search(name):
                tensors[name] = info
    for name, file_name in (weight_map or {}).items():
        if name not in tensors and not IGNORED.search(name):
            raise CheckpointError(
                f"{name} is missing: {index_file.name} says that {file_name} holds it, and it does "
                "not. Download that file again."
            )
    return tensors


def _read_header(file: Path) -> dict[str, TensorInfo]:
    """The header of a safetensors file: 8 bytes of length, JSON, then the tensors' bytes."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 0 < length <= size - 8:
            raise CheckpointError(
                f"{file} ends early or is no safetensors file ({size:,} bytes); download it again."
            )
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            infos = {
                name: TensorInfo(
                    file, entry["dtype"], tuple(entry["shape"]),
                    entry["data_offsets"][1] - entry["data_offsets"][0],
                )
                for name, entry in header.items()
            }  # fmt: skip
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise CheckpointError(
                f"{file} has a damaged safetensors header ({error}); download it again."
            ) from error
    if size < 8 + length + end:
        raise CheckpointError(
            f"{file} ends early ({size / 1e9:.6f} of {(8 + length + end) / 1e9:.6f} GB); download it again."
        )
    return infos


def _stored(values: dict[str, Any], tensors: Mapping[str, TensorInfo], path: Path) -> str:
    quantization = values.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method")
        if method in ("bitsandbytes", "bitsandbytes_4bit") and (
            quantization.get("load_in_4bit") or quantization.get("_load_in_4bit")
        ):
            return quantization.get("bnb_4bit_quant_type", "fp4")
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
    totals = dict.fromkeys(STORED_NAMES, 0)
    for info in tensors.values():
        totals[info.dtype] += info.nbytes
    return STORED_NAMES[max(totals, key=totals.__getitem__)]  # the type of most of the bytes
