"""Packing a 4-bit weight for the CPU is what bitsandbytes would do in the first prompt, bit for bit."""

import copy

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import has_avx512bf16, quantize_4bit
from bitsandbytes.nn.modules import _convert_weight_packed_for_cpu

from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load
from workbench.errors import QuantizationError
from workbench.linear.quantization import describe_packed, pack, packed, quantize

SHAPES = [(32, 64), (96, 64), (64, 320), (160, 192), (1344, 128)]


def drawn(shape):
    random = torch.Generator().manual_seed(shape[0])
    return torch.randn(shape, generator=random).to(torch.bfloat16)


def quantized(shape, quant_type, nested):
    return quantize_4bit(
        drawn(shape), blocksize=64, quant_type=quant_type, compress_statistics=nested
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_packed_weights_and_their_state_are_those_of_bitsandbytes(quant_type, nested, shape):
    weight, state = quantized(shape, quant_type, nested)
    before = weight.clone()
    ours, our_state = packed(weight, state), copy.deepcopy(state)
    assert torch.equal(weight, before)  # only read
    describe_packed(our_state)
    expected, expected_state = _convert_weight_packed_for_cpu(weight, state)
    assert ours.dtype == expected.dtype
    assert torch.equal(ours, expected)
    told, known = vars(our_state), vars(expected_state)
    assert told.keys() == known.keys()
    for name, value in known.items():
        if isinstance(value, torch.Tensor):
            assert told[name].dtype == value.dtype, name
            assert told[name].is_contiguous() == value.is_contiguous(), name
            assert torch.equal(told[name], value), name
        else:
            assert told[name] == value, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_a_module_is_packed_as_bitsandbytes_packs_it(quant_type, shape):
    """On every processor: nothing is multiplied."""
    weight, state = quantized(shape, quant_type, nested=True)
    expected, expected_state = _convert_weight_packed_for_cpu(weight, state)
    module = bnb.nn.Linear4bit(shape[1], shape[0], bias=False, quant_type=quant_type).eval()
    module.support_avx512bf16_for_cpu = True
    quantize(module, "layer", drawn(shape), "cpu")
    pack(module)
    assert torch.equal(module.weight.data, expected)
    assert module.quant_state is module.weight.quant_state
    assert module.quant_state.packing_format_for_cpu
    assert torch.equal(module.quant_state.absmax, expected_state.absmax)
    with pytest.raises(QuantizationError, match="packed for the CPU"):
        module.state_dict()


@pytest.mark.skipif(not has_avx512bf16(), reason="this CPU has no packed path")
@pytest.mark.parametrize("tokens", [1, 3, 40])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_a_packed_module_computes_what_one_computes_that_bitsandbytes_packs(quant_type, tokens):
    random = torch.Generator().manual_seed(2)
    weight = torch.randn(96, 128, generator=random).to(torch.bfloat16)
    inputs = torch.randn(tokens, 128, generator=random).to(torch.bfloat16)
    outputs = []
    for by_us in (True, False):
        module = bnb.nn.Linear4bit(
            128, 96, bias=False, compute_dtype=torch.bfloat16, quant_type=quant_type
        ).eval()
        quantize(module, "layer", weight, "cpu")
        if by_us:
            pack(module)
        with torch.inference_mode():
            outputs.append(module(inputs))
    assert torch.equal(*outputs)


def test_every_4_bit_weight_of_a_loaded_model_is_packed_and_stays_as_it_is(tmp_path):
    pangu = load(make_tiny_checkpoint(tmp_path), bits=4, device="cpu")
    modules = [m for m in pangu.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    if not modules[0].support_avx512bf16_for_cpu:
        pytest.skip("this CPU has no packed path")
    assert len(modules) == 3 * (4 + 13 * 3)
    assert all(module.weight.quant_state.packing_format_for_cpu for module in modules)
    places = [module.weight.data_ptr() for module in modules]
    pangu.trace([1, 45, 99, 7])
    assert [module.weight.data_ptr() for module in modules] == places
