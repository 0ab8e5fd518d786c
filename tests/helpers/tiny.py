"""Random tiny checkpoints in the released layout, with a real tokenizer."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file

SPECIAL = [f"[unused{number}]" for number in range(18)]
MOE = {
    "model_type": "PanguProMoE",
    "architectures": ["PanguProMoEForCausalLM"],
    "hidden_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_experts": 12,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 128,
    "max_position_embeddings": 512,
    "rope_theta": 16000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}
DENSE = {
    "model_type": "PanguEmbedded",
    "architectures": ["PanguEmbeddedForCausalLM"],
    "bias": True,
    "hidden_size": 192,
    "intermediate_size": 320,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_theta": 16000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@cache
def tokenizer_folder() -> Path:
    """A SentencePiece model with byte fallback and Pangu's special tokens, trained once."""
    folder = Path(mkdtemp(prefix="tiny-tokenizer-"))
    text = Path(__file__).read_text(encoding="utf-8")
    lines = [*text.splitlines(), "床前明月光，疑是地上霜。", "举头望明月，低头思故乡。"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 3),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=SPECIAL,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    config = {
        "added_tokens_decoder": {
            str(model.piece_to_id(name)): {"content": name, "special": True}
            for name in ["<unk>", "<s>", "</s>", *SPECIAL]
        },
        "bos_token": "<s>",
        "eos_token": "[unused10]",
        "pad_token": "<unk>",
        "unk_token": "<unk>",
        "tokenizer_class": "PanguTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_openpangu.PanguTokenizer", None]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Released tensor names and their shapes, by formula."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    key_value = config["num_key_value_heads"] * head
    bias = config.get("bias", True)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocabulary, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{norm}.weight"] = (hidden,)
        for name, width in (("q", hidden), ("k", key_value), ("v", key_value), ("o", hidden)):
            shapes[f"{prefix}self_attn.{name}_proj.weight"] = (width, hidden)
            if bias:
                shapes[f"{prefix}self_attn.{name}_proj.bias"] = (width,)
        if config["model_type"] == "PanguProMoE":
            experts = config["num_experts"]
            shapes[f"{prefix}mlp.gate.weight"] = (experts, hidden)
            shapes[f"{prefix}mlp.router_scale"] = (1, experts)
            networks = [
                (f"experts.{expert}", config["moe_intermediate_size"]) for expert in range(experts)
            ]
            networks.append(("shared_expert", config["shared_expert_intermediate_size"]))
        else:
            networks = [("", config["intermediate_size"])]
        for network, width in networks:
            start = f"{prefix}mlp.{network}".rstrip(".")
            shapes[f"{start}.gate_proj.weight"] = (width, hidden)
            shapes[f"{start}.up_proj.weight"] = (width, hidden)
            shapes[f"{start}.down_proj.weight"] = (hidden, width)
    return shapes


def make_tiny_checkpoint(
    folder: Path,
    architecture: str = "PanguProMoE",
    seed: int = 0,
    dtype: str = "float32",
    shards: int = 1,
    **overrides: Any,
) -> Path:
    """Write a random checkpoint whose router_scale is far from 1 and whose biases are not 0."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_folder() / name, folder / name)
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    config = {
        **(MOE if architecture == "PanguProMoE" else DENSE),
        "vocab_size": model.get_piece_size(),
        "bos_token_id": 1,
        "pad_token_id": 0,
        "eos_token_id": model.piece_to_id("[unused10]"),
        "torch_dtype": dtype,
        **overrides,
    }
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        values = torch.randn(shape, generator=random)
        if name.endswith("router_scale"):
            values = values.abs() * 2 + 0.5
        elif name.endswith("norm.weight"):
            values = 1 + 0.2 * values
        elif name.endswith("bias"):
            values = 0.3 * values
        elif "embed_tokens" not in name:
            values = values * 1.5 / shape[-1] ** 0.5
        tensors[name] = values.to(DTYPES[dtype])
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    names, weight_map = sorted(tensors), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
