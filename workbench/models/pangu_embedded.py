"""openPangu-Embedded, the dense Pangu (7B and 1B): a Llama with biases on q, k, v and o.

The maths is transformers' own Llama; this file only maps the released `config.json` and
`model_type` onto it. Source: the released configurations and tensor names.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from workbench.errors import CheckpointError
from workbench.models._config_keys import (
    refuse_unknown_keys,
    require_booleans,
    require_plain_rotary_embedding,
    require_positive_integers,
    require_positive_number,
)


@strict
class PanguConfig(LlamaConfig):
    """What the dense and the Mixture-of-Grouped-Experts configuration share.

    Attributes
    ----------
    bias : bool
        Whether q, k, v and o have a bias. Nothing else has one.
    """

    vocab_size: int = 153376
    bias: bool = True
    attention_bias: bool | None = None  # Llama's name for `bias`; derived
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 32768
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 45892
    pad_token_id: int | None = 0
    default_theta = 16_000_000.0
    size_names = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
    )

    def __post_init__(self, **kwargs: Any) -> None:
        require_positive_integers(
            self.model_type, {name: getattr(self, name) for name in self.size_names}
        )
        require_positive_number(self.model_type, "rms_norm_eps", self.rms_norm_eps)
        require_booleans(
            self.model_type, {"bias": self.bias, "tie_word_embeddings": self.tie_word_embeddings}
        )
        rope = {**(self.rope_parameters or {}), **(kwargs.get("rope_scaling") or {})}
        if "rope_theta" in kwargs:
            rope["rope_theta"] = kwargs["rope_theta"]
        require_plain_rotary_embedding(self.model_type, rope)
        refuse_unknown_keys(
            self.model_type,
            {key: kwargs[key] for key in kwargs if key not in ("rope_theta", "rope_scaling")},
        )
        if self.attention_bias not in (None, self.bias):
            raise CheckpointError(
                f"config.json says bias={self.bias} and attention_bias={self.attention_bias}: "
                "they mean the same and must agree; remove attention_bias."
            )
        self.attention_bias = self.bias
        if self.mlp_bias:
            raise CheckpointError(
                "config.json says mlp_bias=true; no Pangu model has biases there. Remove the key."
            )
        if self.hidden_act != "silu":
            raise CheckpointError(
                f"config.json says hidden_act={self.hidden_act!r}; Pangu models use 'silu'."
            )
        heads, key_value_heads = self.num_attention_heads, self.num_key_value_heads
        if self.hidden_size % heads:
            raise CheckpointError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {heads}."
            )
        if heads % key_value_heads:
            raise CheckpointError(
                f"num_attention_heads {heads} is not a multiple of num_key_value_heads "
                f"{key_value_heads}: every key head must serve the same number of query heads."
            )
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The released keys: `rope_theta` and `bias` stand where transformers has its own names."""
        values = super().to_dict()
        rope_parameters = values.pop("rope_parameters", None)
        if rope_parameters:
            values["rope_theta"] = rope_parameters["rope_theta"]
        for llama_key in ("attention_bias", "mlp_bias", "pretraining_tp"):
            values.pop(llama_key, None)
        if values.get("head_dim") == self.hidden_size // self.num_attention_heads:
            values.pop("head_dim")
        return values


@strict
class PanguEmbeddedConfig(PanguConfig):
    """Configuration of openPangu-Embedded; the defaults are the released 7B's."""

    model_type = "PanguEmbedded"

    hidden_size: int = 4096
    intermediate_size: int = 12800
    num_hidden_layers: int = 34
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 8
    size_names = (*PanguConfig.size_names, "intermediate_size")


class PanguEmbeddedModel(LlamaModel):
    """The decoder without its head. Tensors: [batch, token, hidden]."""

    config: PanguEmbeddedConfig
    config_class = PanguEmbeddedConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq"]


class PanguEmbeddedForCausalLM(LlamaForCausalLM):
    """openPangu-Embedded with its language-model head.

    Logits are [batch, token, vocabulary]. Attention is grouped-query with the rotary embedding
    over the whole head. `model.layers.*.self_attn.rotary_emb.inv_freq` of the released files is
    recomputed, not read.
    """

    config: PanguEmbeddedConfig
    config_class = PanguEmbeddedConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq"]
