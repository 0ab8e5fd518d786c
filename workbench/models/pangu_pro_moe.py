"""Pangu Pro MoE: Mixture of Grouped Experts (MoGE), one expert of every group for every token.

Source: "Pangu Pro MoE: Mixture of Grouped Experts for Efficient Sparsity" (arXiv 2505.21411) and
the released configuration and tensor names. Attention, norms and rotary embedding are Llama's.
"""

from __future__ import annotations

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import LlamaForCausalLM, LlamaModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)
from transformers.utils.output_capturing import OutputRecorder

from workbench.errors import CheckpointError
from workbench.models.pangu_embedded import PanguConfig

# Left by the training framework in some releases; they are no weights of the model.
IGNORED_TENSORS = [r"rotary_emb\.inv_freq", r"module", r"kv_cache_offset"]


@strict
class PanguProMoEConfig(PanguConfig):
    """Configuration of Pangu Pro MoE; the defaults are the released 72B's.

    Attributes
    ----------
    num_experts_per_tok : int
        Experts used per token, which is also the number of groups: every group gives its best.
    moe_intermediate_size, shared_expert_intermediate_size : int
        Inner width of one routed expert and of the shared expert.
    """

    model_type = "PanguProMoE"

    hidden_size: int = 5120
    intermediate_size: int | None = None  # no layer is dense
    num_hidden_layers: int = 48
    num_attention_heads: int = 40
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    num_experts: int = 64
    num_experts_per_tok: int = 8
    moe_intermediate_size: int = 1344
    shared_expert_intermediate_size: int = 5376
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    size_names = (
        *PanguConfig.size_names,
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
    )

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.num_experts % self.num_experts_per_tok:
            raise CheckpointError(
                f"num_experts {self.num_experts} is not a multiple of num_experts_per_tok "
                f"{self.num_experts_per_tok}: a MoGE model has as many equal groups as experts per token."
            )

    @property
    def num_groups(self) -> int:
        """Groups of experts: contiguous, equal, as many as experts are used per token."""
        return self.num_experts_per_tok

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        values.pop("intermediate_size", None)
        return values


class PanguProMoEExpert(nn.Module):
    """One feed-forward network: down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class PanguProMoERouter(nn.Linear):
    """The gate: which expert of each group a token uses, and with which weight."""

    def __init__(self, hidden_size: int, num_experts: int, num_groups: int) -> None:
        super().__init__(hidden_size, num_experts, bias=False)
        self.num_groups = num_groups

    def forward(
        self, hidden: torch.Tensor, router_scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Route tokens.

        Parameters
        ----------
        hidden
            [token, hidden].
        router_scale
            [1, expert]; multiplies the winner's probability.

        Returns
        -------
        router_logits
            [token, expert], float32.
        routing_weights
            [token, slot], float32: softmax over all experts in float32, the winner's probability
            times its router_scale. They are not renormalised. slot = group.
        selected_experts
            [token, slot], int64, counted over all experts. A tie goes to the lowest index.
        """
        router_logits = super().forward(hidden.to(self.weight.dtype)).float()
        probabilities = router_logits.softmax(dim=-1)
        grouped = probabilities.unflatten(-1, (self.num_groups, -1))  # [token, group, member]
        winning_probability, winner = grouped.max(dim=-1)  # [token, group]
        first_of_group = torch.arange(self.num_groups, device=hidden.device) * grouped.shape[-1]
        selected_experts = winner + first_of_group
        routing_weights = winning_probability * router_scale.float()[0, selected_experts]
        return router_logits, routing_weights, selected_experts


class PanguProMoEExperts(nn.ModuleList):
    """The routed experts, one module each under the checkpoint's own names."""

    def forward(
        self, hidden: torch.Tensor, selected_experts: torch.Tensor, routing_weights: torch.Tensor
    ) -> torch.Tensor:
        """Weighted sum of the selected experts' outputs.

        hidden is [token, hidden], the other two [token, slot]; the result is [token, hidden].
        Only experts that some token selected are run. The sum is taken in float32.
        """
        output = torch.zeros_like(hidden, dtype=torch.float32)
        order = selected_experts.flatten().argsort(
            stable=True
        )  # token-slot pairs, expert by expert
        tokens = order // selected_experts.shape[-1]
        weights = routing_weights.flatten()[order].unsqueeze(-1)
        counts = torch.bincount(selected_experts.flatten(), minlength=len(self)).tolist()
        start = 0
        for expert, count in zip(self, counts, strict=True):
            if count:
                rows = tokens[start : start + count]
                contribution = expert(hidden[rows]).float() * weights[start : start + count]
                output.index_add_(0, rows, contribution)
                start += count
        return output.to(hidden.dtype)


class PanguProMoEMLP(nn.Module):
    """Router, routed experts and the shared expert of one layer.

    The shared expert sees every token; it is neither gated nor scaled.
    """

    def __init__(self, config: PanguProMoEConfig) -> None:
        super().__init__()
        self.gate = PanguProMoERouter(config.hidden_size, config.num_experts, config.num_groups)
        self.router_scale = nn.Parameter(torch.ones(1, config.num_experts))
        self.experts = PanguProMoEExperts(
            PanguProMoEExpert(config.hidden_size, config.moe_intermediate_size)
            for _ in range(config.num_experts)
        )
        self.shared_expert = PanguProMoEExpert(
            config.hidden_size, config.shared_expert_intermediate_size
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden = hidden_states.flatten(0, 1)  # [token, hidden]
        _, routing_weights, selected_experts = self.gate(hidden, self.router_scale)
        routed = self.experts(hidden, selected_experts, routing_weights)
        return (routed + self.shared_expert(hidden)).view_as(hidden_states)


class PanguProMoEDecoderLayer(LlamaDecoderLayer):
    """Llama's pre-norm layer with a mixture of grouped experts in the place of its MLP."""

    def __init__(self, config: PanguProMoEConfig, layer_idx: int) -> None:
        GradientCheckpointingLayer.__init__(self)  # Llama's own would build a dense MLP first
        self.hidden_size = config.hidden_size
        self.self_attn = LlamaAttention(config, layer_idx)
        self.mlp = PanguProMoEMLP(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class PanguProMoEPreTrainedModel(LlamaPreTrainedModel):
    """What transformers needs to know of every Pangu Pro MoE class."""

    config: PanguProMoEConfig
    config_class = PanguProMoEConfig
    _no_split_modules = ["PanguProMoEDecoderLayer"]
    _keys_to_ignore_on_load_unexpected = IGNORED_TENSORS
    _keep_in_fp32_modules_strict = {"router_scale"}  # bfloat16 would round what a file holds
    _can_compile_fullgraph = False  # which experts run depends on the tokens
    _can_record_outputs = {
        "hidden_states": PanguProMoEDecoderLayer,
        "attentions": LlamaAttention,
        "router_logits": OutputRecorder(PanguProMoERouter, index=0),
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PanguProMoEMLP):
            nn.init.ones_(module.router_scale)


class PanguProMoEModel(PanguProMoEPreTrainedModel, LlamaModel):
    """The decoder without its head. Tensors: [batch, token, hidden]."""

    def __init__(self, config: PanguProMoEConfig) -> None:
        PanguProMoEPreTrainedModel.__init__(self, config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(
            PanguProMoEDecoderLayer(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class PanguProMoEForCausalLM(PanguProMoEPreTrainedModel, LlamaForCausalLM):
    """Pangu Pro MoE with its language-model head. Logits are [batch, token, vocabulary]."""

    def __init__(self, config: PanguProMoEConfig) -> None:
        PanguProMoEPreTrainedModel.__init__(self, config)
        self.model = PanguProMoEModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()
