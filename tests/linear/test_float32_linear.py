"""Multiplying in float32, piece by piece, gives what bitsandbytes and torch give."""

import platform

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import nn

from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load
from workbench.linear import float32_linear
from workbench.linear.float32_linear import (
    Float32Linear,
    Linear4bit,
    Linear8bitLt,
    code_pairs,
    cpu_multiplies_bfloat16,
    dequantized,
    plain_scales,
)
from workbench.linear.quantization import quantize

TOKENS = [1, 3, 40]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_dequantized_weights_are_those_of_bitsandbytes(quant_type, nested):
    weight, state = quantize_4bit(drawn(96, 320), quant_type=quant_type, compress_statistics=nested)
    ours = dequantized(weight.view(-1), plain_scales(state), code_pairs(state)).view(96, 320)
    assert torch.equal(ours.to(torch.bfloat16), dequantize_4bit(weight, state))


@pytest.mark.parametrize("has_avx512", [True, False])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_a_4_bit_module_in_pieces_computes_what_bitsandbytes_computes(
    quant_type, has_bias, tokens, has_avx512, monkeypatch
):
    monkeypatch.setattr(float32_linear, "cpu_has_avx512", lambda: has_avx512)
    monkeypatch.setattr(float32_linear, "CHUNK", 64 * 320)  # 3 pieces of 64 rows, one of 8
    module = Linear4bit(
        320, 200, bias=has_bias, quant_type=quant_type, compute_dtype=torch.bfloat16
    ).eval()
    module.support_avx512bf16_for_cpu = False
    module.weight = bnb.nn.Params4bit(
        drawn(200, 320), requires_grad=False, quant_type=quant_type, module=module
    ).to("cpu")
    if has_bias:
        module.bias.data = drawn(200)
    inputs = drawn(1, tokens, 320)
    with torch.inference_mode():
        ours, theirs = module(inputs), bnb.nn.Linear4bit.forward(module, inputs)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-2)  # one bfloat16 step


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_bfloat16_module_in_pieces_computes_what_torch_computes(has_bias, tokens, monkeypatch):
    monkeypatch.setattr(float32_linear, "CHUNK", 64 * 90)
    module = Float32Linear(90, 200, bias=has_bias).to(torch.bfloat16)
    inputs = drawn(1, tokens, 90)
    with torch.inference_mode():
        exact = nn.functional.linear(
            inputs.double(), module.weight.double(), module.bias.double() if has_bias else None
        )
        ours = module(inputs)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), exact, rtol=2**-8, atol=1e-2)


@pytest.mark.parametrize("outlier", [False, True])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_an_8_bit_module_in_pieces_computes_what_bitsandbytes_computes(
    has_bias, tokens, outlier, monkeypatch
):
    monkeypatch.setattr(float32_linear, "CHUNK", 64 * 90)  # 3 pieces of 64 rows, one of 8
    module = Linear8bitLt(90, 200, bias=has_bias, has_fp16_weights=False, threshold=6.0).eval()
    quantize(module, "layer", drawn(200, 90), "cpu")
    if has_bias:
        module.bias.data = drawn(200)
    inputs = drawn(1, tokens, 90)
    if outlier:
        inputs[..., 7] = 9
    calls = []
    monkeypatch.setattr(bnb, "matmul", lambda *_, **__: calls.append(1))
    with torch.inference_mode():
        monkeypatch.setattr(float32_linear, "cpu_has_avx512", lambda: False)
        ours = module(inputs)
        assert not calls
        monkeypatch.undo()
        theirs = bnb.nn.Linear8bitLt.forward(module, inputs)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-2)  # one bfloat16 step


def test_what_imitates_bfloat16_is_not_taken_for_it(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    for has in (0, 1):
        monkeypatch.setattr(bnb.functional, "has_avx512bf16", lambda has=has: has)
        assert cpu_multiplies_bfloat16() is bool(has)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_processor_without_bfloat16_gives_the_same_logits(bits, tmp_path, monkeypatch):
    folder = make_tiny_checkpoint(tmp_path, "PanguEmbedded", dtype="bfloat16")
    ids, found = torch.arange(1, 41)[None], []
    for has in (True, False):
        monkeypatch.setattr(
            "workbench.loading.filling.cpu_multiplies_bfloat16", lambda has=has: has
        )
        model = load(folder, bits=bits, device="cpu").model
        assert isinstance(model.lm_head, Float32Linear) != has
        with torch.inference_mode():
            found.append(model(ids).logits.float())
    assert (found[0] - found[1]).norm() < 0.02 * found[0].norm()
