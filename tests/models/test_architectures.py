"""The transformers classes against the NumPy reference and against transformers' own Llama."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.helpers.tiny import make_tiny_checkpoint
from tests.reference.pangu_numpy import run
from workbench import load
from workbench.errors import CheckpointError
from workbench.models import (
    PanguEmbeddedConfig,
    PanguEmbeddedForCausalLM,
    PanguProMoEConfig,
    PanguProMoEForCausalLM,
)

IDS = [1, 45, 99, 7, 300, 45, 211]
SHAPES = {
    "moe": ("PanguProMoE", {}),
    "moe of another shape": (
        "PanguProMoE",
        {
            "hidden_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "num_experts": 10,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 40,
        },
    ),
    "dense": ("PanguEmbedded", {}),
    "dense without bias": ("PanguEmbedded", {"bias": False}),
    "dense with tied embeddings": ("PanguEmbedded", {"tie_word_embeddings": True}),
}


def on_meta(model_class, config):
    with torch.device("meta"):
        return model_class(config)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_the_float64_reference(shape, tmp_path: Path):
    architecture, overrides = SHAPES[shape]
    folder = make_tiny_checkpoint(tmp_path, architecture, seed=3, **overrides)
    model = load(folder, bits=16, device="cpu").model
    with torch.inference_mode():
        logits = model(torch.tensor([IDS])).logits[0].numpy()
    expected = run(folder, IDS)["logits"]
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("which", ["moe", "dense"])
def test_prefill_equals_token_by_token_with_the_cache(which, request):
    model = request.getfixturevalue(which).model
    with torch.inference_mode():
        whole = model(torch.tensor([IDS])).logits[0]
        cache, steps = None, []
        for token in IDS:
            output = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            steps.append(output.logits[0, 0])
    torch.testing.assert_close(torch.stack(steps), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("which", ["moe", "dense"])
def test_a_padded_batch_equals_its_rows_alone(which, side, request):
    model = request.getfixturevalue(which).model
    rows = [IDS, IDS[:4]]
    pad = [0] * (len(IDS) - 4)
    ids = torch.tensor([rows[0], pad + rows[1] if side == "left" else rows[1] + pad])
    mask = torch.ones_like(ids)
    hidden = slice(0, len(pad)) if side == "left" else slice(4, None)
    mask[1, hidden] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        batch = model(ids, attention_mask=mask, position_ids=positions).logits
        for row, alone in enumerate(rows):
            expected = model(torch.tensor([alone])).logits[0]
            torch.testing.assert_close(batch[row][mask[row] == 1], expected, atol=1e-4, rtol=1e-4)


def test_the_dense_model_equals_llama_with_attention_bias(dense):
    ours, config = dense.model, dense.config
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": 16000.0},
            attention_bias=True,
            pad_token_id=0,
        )
    ).eval()
    llama.load_state_dict(ours.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(torch.tensor([IDS])).logits, llama(torch.tensor([IDS])).logits
        )


def test_the_released_sizes_give_the_published_numbers_of_parameters():
    moe = on_meta(PanguProMoEForCausalLM, PanguProMoEConfig())
    dense = on_meta(PanguEmbeddedForCausalLM, PanguEmbeddedConfig())
    assert sum(p.numel() for p in moe.parameters()) == 71_988_781_056
    assert sum(p.numel() for p in dense.parameters()) == 8_030_887_936
    assert len(moe.state_dict()) == 9939


def test_tensor_names_are_those_of_the_released_7b():
    model = on_meta(PanguEmbeddedForCausalLM, PanguEmbeddedConfig())
    parts = [f"self_attn.{name}_proj.{kind}" for name in "qkvo" for kind in ("weight", "bias")]
    parts += [f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")]
    parts += ["input_layernorm.weight", "post_attention_layernorm.weight"]
    expected = {f"model.layers.{layer}.{part}" for layer in range(34) for part in parts}
    expected |= {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert set(model.state_dict()) == expected
    index = "shared/pangu/openpangu-embedded-7b/model.safetensors.index.json"
    for parent in Path(__file__).resolve().parents:  # the released index, where it is at hand
        if (parent / index).is_file():
            released = json.loads((parent / index).read_text())["weight_map"]
            assert {name for name in released if "inv_freq" not in name} == expected


@pytest.mark.parametrize("which", ["moe", "dense"])
def test_a_saved_model_loads_back_through_the_auto_classes(which, request, tmp_path: Path):
    model = request.getfixturevalue(which).model
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(again) is type(model)
    assert AutoConfig.from_pretrained(tmp_path).model_type == model.config.model_type
    assert json.loads((tmp_path / "config.json").read_text())["rope_theta"] == 16000.0
    with torch.inference_mode():
        torch.testing.assert_close(
            again(torch.tensor([IDS])).logits, model(torch.tensor([IDS])).logits
        )


@pytest.mark.parametrize("which", ["moe", "dense"])
def test_generate_of_transformers_works_with_and_without_a_cache(which, request):
    model = request.getfixturevalue(which).model
    ids = torch.tensor([IDS])
    settings = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    cached = model.generate(ids, use_cache=True, **settings)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **settings))


def test_the_router_is_a_float32_softmax_even_in_bfloat16():
    from workbench.models.pangu_pro_moe import PanguProMoERouter

    router = PanguProMoERouter(8, 6, 3).bfloat16()
    hidden = torch.randn(5, 8, dtype=torch.bfloat16)
    scale = torch.linspace(0.5, 3, 6).bfloat16()[None]
    logits, weights, chosen = router(hidden, scale)
    assert logits.dtype == weights.dtype == torch.float32
    probability = logits.softmax(-1)
    for token in range(5):
        for group in range(3):
            pair = probability[token, 2 * group : 2 * group + 2]
            winner = 2 * group + int(pair[1] > pair[0])
            assert chosen[token, group] == winner
            expected = probability[token, winner] * scale[0, winner].float()
            torch.testing.assert_close(weights[token, group], expected)


@pytest.mark.parametrize(
    "keys",
    [
        {"norm_topk_prob": True},
        {"routed_scaling_factor": 2.5},
        {"n_group": 4},
        {"sliding_window": 128},
        {"mlp_only_layers": [0]},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"hidden_act": "gelu"},
        {"num_experts_per_tok": 7},
        {"num_attention_heads": 7},
        {"num_key_value_heads": 3},
        {"hidden_size": "wide"},
        {"num_hidden_layers": 2.5},
        {"num_experts": 0},
    ],
    ids=str,
)
def test_a_config_that_could_change_the_maths_is_refused(keys):
    with pytest.raises(CheckpointError, match=next(iter(keys))):
        PanguProMoEConfig(**keys)


def test_keys_without_influence_on_the_maths_are_accepted():
    config = PanguProMoEConfig(
        auto_map={"AutoConfig": "remote.Config"},
        torch_dtype="bfloat16",
        norm_topk_prob=False,
        mlp_only_layers=[],
        sliding_window=None,
    )
    assert config.num_groups == 8
