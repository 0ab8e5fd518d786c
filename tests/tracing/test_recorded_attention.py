"""Queries, keys and attention of quantized models and models in bfloat16, against eager attention."""

import bitsandbytes as bnb
import numpy as np
import pytest
import torch

from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load

IDS = np.random.default_rng(4).integers(20, 400, 32).tolist()  # as many as a head has dimensions
BF16 = 2.0**-9  # relative error of one rounding to bfloat16


@pytest.fixture(scope="module", params=["PanguProMoE", "PanguEmbedded"])
def traced(request, tmp_path_factory):
    """(model, trace, inputs of every layer's attention) of a checkpoint in bfloat16."""
    folder = make_tiny_checkpoint(
        tmp_path_factory.mktemp("bf16"), request.param, seed=2, dtype="bfloat16"
    )
    pangu = load(folder, bits=16, device="cpu")
    inputs = []

    def note(_module, _arguments, named):
        inputs.append(named["hidden_states"][0].clone())

    handles = [
        layer.self_attn.register_forward_pre_hook(note, with_kwargs=True)
        for layer in pangu.model.model.layers
    ]
    trace = pangu.trace(IDS)
    for handle in handles:
        handle.remove()
    return pangu.model, trace, inputs


def exact_attention(trace, layer, head):
    """Row by row in float64, from the recorded queries and keys."""
    query, key = trace.query[layer, :, head], trace.key[layer, :, head // 3]  # 6 heads, 2 key heads
    rows = np.zeros((len(query), len(key)))
    for row in range(len(query)):
        scores = key[: row + 1].astype(float) @ query[row].astype(float) / np.sqrt(32)
        rows[row, : row + 1] = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    return rows


@pytest.mark.parametrize("name", ["query", "key"])
def test_queries_and_keys_are_those_of_the_layer_s_own_inputs(traced, name):
    model, trace, inputs = traced
    for layer, hidden in enumerate(inputs):
        projection = getattr(model.model.layers[layer].self_attn, f"{name[0]}_proj")
        weight, bias = (
            value.detach().double().numpy() for value in (projection.weight, projection.bias)
        )
        plain = hidden.double().numpy() @ weight.T + bias
        for token in range(len(IDS)):
            for head, values in enumerate(plain[token].reshape(-1, 32)):
                for pair in range(16):  # dimensions d and d + 16 turn together
                    angle = token * 16000.0 ** (-pair / 16)
                    turned = complex(values[pair], values[pair + 16]) * np.exp(1j * angle)
                    recorded = getattr(trace, name)[layer, token, head, [pair, pair + 16]]
                    allowed = 8 * BF16 * (abs(turned) + 0.1)  # projection, cosine, products, sum
                    assert abs(complex(*recorded) - turned) < allowed


def test_attention_is_exact_for_the_recorded_queries_and_keys(traced):
    _, trace, _ = traced
    for layer in range(3):
        for head in range(6):
            attention = trace.attention(layer, head)
            np.testing.assert_allclose(attention, exact_attention(trace, layer, head), atol=2e-6)


def test_the_model_s_fused_attention_is_the_trace_s_but_for_the_last_rounding(traced):
    _, trace, _ = traced
    for layer in range(3):
        query = torch.from_numpy(trace.query[layer]).bfloat16().transpose(0, 1)[None]
        key = torch.from_numpy(trace.key[layer]).bfloat16().transpose(0, 1)[None]
        unit = torch.eye(32, dtype=torch.bfloat16).expand(1, 6, -1, -1)  # values that show weights
        maps = torch.nn.functional.scaled_dot_product_attention(
            query, key.repeat_interleave(3, 1), unit, is_causal=True
        )[0]
        for head in range(6):
            np.testing.assert_allclose(
                trace.attention(layer, head), maps[head].float().numpy(), atol=3 * BF16
            )


def test_eager_attention_in_bfloat16_differs_by_the_rounding_of_its_scores(traced):
    model, trace, inputs = traced
    count = len(IDS)
    mask = torch.full((1, 1, count, count), torch.finfo(torch.bfloat16).min).triu(1).bfloat16()
    rotation = model.model.rotary_emb(inputs[0][None], torch.arange(count)[None])
    model.set_attn_implementation("eager")
    try:
        for layer, hidden in enumerate(inputs):
            attention = model.model.layers[layer].self_attn
            with torch.inference_mode():
                maps = attention(hidden[None], rotation, mask)[1][0].float().numpy()
            for head in range(6):
                exact = exact_attention(trace, layer, head)
                query, key = trace.query[layer, :, head], trace.key[layer, :, head // 3]
                scores = np.tril(query.astype(float) @ key.astype(float).T / np.sqrt(32))
                # Scores are rounded twice, after the product and after the scale; then the weights.
                shift = 2 * 2 * BF16 * np.abs(scores).max(-1, keepdims=True)
                allowed = exact * np.expm1(shift) + 2 * BF16 * exact + 1e-6
                assert (np.abs(maps[head] - exact) <= allowed).all()
                assert (np.abs(maps[head] - trace.attention(layer, head)) <= allowed + 2e-6).all()
    finally:
        model.set_attn_implementation("sdpa")


def compute_in_float32(model):
    """The same quantized weights, as float32 modules: both ways then round alike."""
    for name, module in list(model.named_modules()):
        if not isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            continue
        columns = torch.eye(module.in_features, dtype=torch.bfloat16)
        with torch.inference_mode():
            weight = module(columns).float().T
        if module.bias is not None:
            weight = weight - module.bias.float()[:, None]
        plain = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None)
        plain.weight.data = weight.clone()
        if module.bias is not None:
            plain.bias.data = module.bias.data.float()
        model.set_submodule(name, plain)
    model.float()


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("architecture", ["PanguProMoE", "PanguEmbedded"])
def test_attention_of_quantized_weights_equals_eager_attention(architecture, bits, tmp_path):
    pangu = load(make_tiny_checkpoint(tmp_path / "tiny", architecture, seed=bits), bits, "cpu")
    quantized = [
        module
        for module in pangu.model.modules()
        if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt)
    ]
    assert bool(quantized) == (bits < 16)
    compute_in_float32(pangu.model)
    trace = pangu.trace(IDS)
    pangu.model.set_attn_implementation("eager")
    with torch.inference_mode():
        maps = pangu.model(torch.tensor([IDS]), output_attentions=True).attentions
    for layer in range(3):
        for head in range(6):
            attention = trace.attention(layer, head)
            np.testing.assert_allclose(attention, maps[layer][0, head].numpy(), atol=1e-3)
            np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-6)
