"""A trained model written as the released checkpoints are."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from workbench.demo.grouped_experts import GroupedExperts
from workbench.demo.recipes import CHECKPOINTS, RECIPES
from workbench.demo.tokenizer import bytes_first
from workbench.models import PanguTokenizer


def export(name: str, model: PreTrainedModel, tokenizer: PanguTokenizer) -> None:
    """Write the checkpoint in the released layout, bf16, with the byte pieces first."""
    folder = CHECKPOINTS / name
    tokenizer.save_pretrained(folder)
    order = bytes_first(folder)
    tokenizer = PanguTokenizer(folder)
    tensors: dict[str, torch.Tensor] = {}
    for tensor_name, tensor in model.state_dict().items():
        if ".mlp.experts." not in tensor_name:
            tensors[tensor_name] = tensor
    for index, layer in enumerate(model.model.layers):
        if isinstance(getattr(layer.mlp, "experts", None), GroupedExperts):
            tensors |= layer.mlp.experts.unstacked(f"model.layers.{index}.mlp.experts")
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[key] = tensors[key][order]
    stored = {key: tensors[key].to(torch.bfloat16).contiguous() for key in sorted(tensors)}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    values = model.config.to_dict() | {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    released = [
        "attention_dropout",
        "bias",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "hidden_act",
        "initializer_range",
        "model_type",
        "num_hidden_layers",
        "use_cache",
        "tie_word_embeddings",
        *RECIPES[name].config,
    ]
    if name == "demo":
        released += ["output_router_logits", "router_aux_loss_coef"]
    config = {"architectures": [type(model).__name__], "torch_dtype": "bfloat16"}
    config |= {key: values[key] for key in sorted(set(released))}
    generation = {
        **{key: values[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 50,
    }
    for file, content in (("config.json", config), ("generation_config.json", generation)):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
