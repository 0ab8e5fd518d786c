"""What these tests share. Ascend's quantized checkpoints mean the numbers that their documentation says."""

import torch

IDS = [1, 45, 99, 7, 300, 45, 211]


WEIGHTS = "quant_model_weights.safetensors"


DESCRIPTION = "quant_model_description.json"


LINEARS = {
    "PanguProMoE": [
        "model.layers.0.self_attn.k_proj",
        "model.layers.1.mlp.experts.5.down_proj",
        "model.layers.0.mlp.experts.2.up_proj",
        "model.layers.1.mlp.shared_expert.gate_proj",
    ],
    "PanguEmbedded": ["model.layers.0.self_attn.o_proj", "model.layers.1.mlp.down_proj"],
}


def logits_of(pangu) -> torch.Tensor:
    with torch.inference_mode():
        return pangu.model(torch.tensor([IDS])).logits[0].float()


def output_of(module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return module(x).float()
