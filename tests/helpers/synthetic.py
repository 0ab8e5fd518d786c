"""Random checkpoints of any size in the released layout, written tensor by tensor at the disk's pace.

In 16 bit, or directly as bitsandbytes stores 4 and 8 bit. Activations stay finite: a weight's
variance is 1 / columns. Weights of one shape are one random matrix, rolled differently for every
tensor, because drawing 72 billion numbers would take longer than anything that is measured.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from tqdm.auto import tqdm

from tests.helpers.tiny import DENSE, MOE, tensor_shapes, tokenizer_folder
from workbench.checkpoints.reading import SAFETENSORS_NAMES
from workbench.linear.quantization import quantization_config, quantize

SHAPES = {
    "7b": {
        **DENSE,
        "vocab_size": 153376,
        "hidden_size": 4096,
        "intermediate_size": 12800,
        "num_hidden_layers": 34,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "rope_theta": 16e6,
    },
    "72b": {
        **MOE,
        "vocab_size": 153376,
        "hidden_size": 5120,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 1344,
        "shared_expert_intermediate_size": 5376,
        "max_position_embeddings": 131072,
        "rope_theta": 16e6,
    },
}
DRAWN = 30_000_001  # random numbers at most; no multiple of a row's length


def write_checkpoint(
    folder: Path, config: dict[str, Any], stored: str = "bf16", shard_bytes: int = 4_000_000_000
) -> Path:
    """Write a random checkpoint; `config` as in `SHAPES`, `stored` "bf16", "nf4", "fp4" or "int8"."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, config["vocab_size"])
    shards: list[list[str]] = [[]]
    filled, described = 0, {}
    for name, shape in tensor_shapes(config).items():
        described[name] = list(_parts(name, shape, stored))
        size = sum(like.nbytes for _, like in described[name])
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    total = sum(like.nbytes for parts in described.values() for _, like in parts)
    weight_map = {}
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"writing {folder.name}") as bar:
        for number, names in enumerate(shards, 1):
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
            parts = [part for name in names for part in described[name]]
            _write_shard(folder / file, parts, bar)
            weight_map |= {part: file for part, _ in parts}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    values = {**config, "bos_token_id": 1, "pad_token_id": 0, "torch_dtype": "bfloat16"}
    if stored != "bf16":
        bits = 8 if stored == "int8" else 4
        told = quantization_config(bits, stored if bits == 4 else "nf4").to_dict()
        values["quantization_config"] = told
    (folder / "config.json").write_text(json.dumps(values, default=str), encoding="utf-8")
    return folder


# -- inside -------------------------------------------------------------------------------------


def _parts(name: str, shape: tuple[int, ...], stored: str) -> Iterator[tuple[str, torch.Tensor]]:
    """What a file holds of one weight: names and tensors, which are shared between equal shapes."""
    if stored == "bf16" or not name.endswith("_proj.weight"):
        yield name, _plain(shape, name.rpartition(".")[0].rpartition(".")[2])
        return
    for part, tensor in _quantized(shape, stored).items():
        yield name.removesuffix("weight") + part, tensor


@cache
def _plain(shape: tuple[int, ...], leaf: str) -> torch.Tensor:
    count = math.prod(shape)
    drawn = torch.randn(min(count, DRAWN), dtype=torch.bfloat16)
    values = drawn.repeat(-(-count // len(drawn)))[:count].view(shape)
    if leaf.endswith("norm") or leaf == "mlp":  # mlp.router_scale
        return (1 + 0.1 * values).to(torch.bfloat16)
    if leaf == "embed_tokens":
        return values
    return values * (0.1 if len(shape) == 1 else shape[-1] ** -0.5)


@cache
def _quantized(shape: tuple[int, ...], stored: str) -> dict[str, torch.Tensor]:
    rows, columns = shape
    if stored == "int8":
        module = bnb.nn.Linear8bitLt(columns, rows, bias=False, has_fp16_weights=False)
    else:
        module = bnb.nn.Linear4bit(
            columns, rows, bias=False, quant_type=stored, compute_dtype=torch.bfloat16
        )
    quantize(module, "layer", _plain(shape, "_proj"), "cpu")
    tensors: dict[str, torch.Tensor] = {}
    module._save_to_state_dict(tensors, "", keep_vars=False)
    return {part: tensor.detach() for part, tensor in tensors.items()}


def _write_shard(file: Path, parts: list[tuple[str, torch.Tensor]], bar: tqdm) -> None:
    header, offset = {}, 0
    for name, tensor in parts:
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": SAFETENSORS_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    draw = random.Random(file.name)
    with file.open("wb", buffering=0) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in parts:
            data = memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
            is_large = name.endswith("weight") and len(data) > 4096
            start = draw.randrange(len(data) // 64) * 64 if is_large else 0
            for piece in (data[start:], data[:start]):
                while piece:
                    piece = piece[stream.write(piece) :]
            bar.update(len(data))


def _write_tokenizer(folder: Path, size: int) -> None:
    """The tiny tokenizer, with meaningless pieces up to a vocabulary's size."""
    source = tokenizer_folder()
    shutil.copyfile(source / "tokenizer_config.json", folder / "tokenizer_config.json")
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((source / "tokenizer.model").read_bytes())
    for number in range(len(model.pieces), size):
        model.pieces.add(piece=f"\u2581{number}", score=-1e6)
    data = model.SerializeToString()
    assert sentencepiece.SentencePieceProcessor(model_proto=data).get_piece_size() >= size
    (folder / "tokenizer.model").write_bytes(data)
