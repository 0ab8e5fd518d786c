"""Ascend's quantized checkpoints mean the numbers that their documentation says: ascend."""

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.checkpoints.ascend_models import DESCRIPTION, LINEARS, WEIGHTS, logits_of, output_of
from tests.helpers.ascend_files import (
    SCHEMES,
    change_json,
    change_tensors,
    make_ascend_checkpoint,
    to_bfloat16,
)
from workbench import load, open_checkpoint
from workbench.errors import CheckpointError, QuantizationError
from workbench.linear.ascend_linear import AscendLinear, decode
from workbench.loading.conversion import quantize_checkpoint


def load_file_bytes(folder):
    from safetensors.torch import load_file as load_torch_file

    return load_torch_file(folder / WEIGHTS)


def test_in_16_bit_an_ascend_file_gives_the_logits_of_its_dequantized_weights(written):
    ascend, meant, _, _ = written
    ours, reference = load(ascend, bits=16, device="cpu"), load(meant, bits=16, device="cpu")
    assert ours.receipt.frame.equals(reference.receipt.frame)
    torch.testing.assert_close(logits_of(ours), logits_of(reference), rtol=1e-4, atol=1e-4)


def test_as_stored_every_module_computes_with_the_stored_weight(written):
    ascend, meant, scheme, architecture = written
    pangu, weights = load(ascend, device="cpu"), load_file(meant / "model.safetensors")
    assert pangu.bits == (4 if scheme.kind == "W4A16" else 8)
    for name in LINEARS[architecture]:
        module, weight = pangu.model.get_submodule(name), weights[f"{name}.weight"]
        bias = weights.get(f"{name}.bias", np.zeros(len(weight), np.float32))
        if isinstance(module, AscendLinear):
            assert scheme.kind == "W4A16" or not scheme.symmetric
            x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(1))
            expected = x.double().numpy() @ weight.T.astype(np.float64)
            if module.bias is not None:
                expected += bias.astype(np.float64)
            bound = 2**-8 * np.abs(bias).max() + 1e-5  # biases are held in bfloat16
            assert np.abs(output_of(module, x).numpy() - expected).max() < bound
        else:
            assert isinstance(module, bnb.nn.Linear8bitLt)
            scale = module.weight.SCB.double().numpy() / 127
            means = module.weight.data.numpy() * scale[:, None]
            assert np.abs(means - weight).max() <= 2**-22 * np.abs(weight).max()
    assert torch.nn.functional.cosine_similarity(
        logits_of(pangu).flatten(), logits_of(load(meant, bits=16, device="cpu")).flatten(), dim=0
    ) > (0.99)


@pytest.mark.parametrize("name", ["w8a8-static", "w8a8-static-half"])
@pytest.mark.parametrize("architecture", LINEARS)
def test_the_static_type_computes_what_its_integer_arithmetic_computes(
    name, architecture, tmp_path
):
    ascend, _ = make_ascend_checkpoint(tmp_path, architecture, (SCHEMES[name],))
    stored, pangu = load_file(ascend / WEIGHTS), load(ascend, bits=16, device="cpu")
    random = np.random.default_rng(5)
    for linear in LINEARS[architecture]:
        parts = {part: stored[f"{linear}.{part}"] for part in ("weight", "quant_bias", "deq_scale")}
        scale, offset = stored[f"{linear}.input_scale"][0], stored[f"{linear}.input_offset"][0]
        if parts["deq_scale"].dtype == np.int64:
            parts["deq_scale"] = parts["deq_scale"].astype(np.int32).view(np.float32)
        module = pangu.model.get_submodule(linear)

        def integers(x_q, parts=parts):
            product = x_q.astype(np.int64) @ parts["weight"].T.astype(np.int64)
            return (product + parts["quant_bias"]) * parts["deq_scale"].astype(np.float64)

        x_q = random.integers(-128, 128, (4, parts["weight"].shape[1]))
        on_grid = ((x_q - np.float64(offset)) * scale).astype(np.float32)
        ours = output_of(module, torch.from_numpy(on_grid)).numpy()
        assert np.allclose(ours, integers(x_q), rtol=1e-4, atol=1e-4)

        x = random.uniform(-1.5, 1.5, (4, parts["weight"].shape[1])).astype(np.float32)
        rounded = np.round(x / scale + offset)
        assert np.abs(rounded).max() <= 127  # nothing is clipped
        ours = output_of(module, torch.from_numpy(x)).numpy()
        off = np.abs(ours - integers(rounded))
        step = parts["deq_scale"] * np.abs(parts["weight"].astype(np.int64)).sum(axis=1)
        assert (off <= 0.5 * step * 1.001).all()
        assert off.max() > 0


def test_a_static_file_without_stored_biases_takes_them_from_quant_bias(tmp_path):
    ascend, meant = make_ascend_checkpoint(tmp_path, schemes=(SCHEMES["w8a8-static"],))

    def drop(tensors):
        for name in [name for name in tensors if name.endswith("_proj.bias")]:
            del tensors[name]

    change_tensors(ascend, drop)
    ours, reference = load(ascend, bits=16, device="cpu"), load(meant, bits=16, device="cpu")
    torch.testing.assert_close(logits_of(ours), logits_of(reference), rtol=1e-4, atol=1e-4)


def test_the_receipt_says_how_every_part_is_stored_and_the_plan_foretold_it(tmp_path):
    schemes = (SCHEMES["w8a16"], SCHEMES["w4a16-group"], SCHEMES["w8a16-offset"])
    ascend, _ = make_ascend_checkpoint(tmp_path, schemes=schemes, in_float="shared_expert")
    to_bfloat16(ascend, WEIGHTS)
    pangu = load(ascend, device="cpu")
    frame = pangu.receipt.frame.set_index("component")
    assert pangu.bits == 4
    assert str(open_checkpoint(ascend)).count("w4a16 + w8a16") == 1
    assert set(frame.loc["routed experts", "stored"].split(" + ")) == {"int8", "w4a16", "w8a16"}
    assert frame.loc["routed experts", "quantized_share"] == 1
    assert frame.loc["shared experts", "stored"] == "bf16"
    assert frame.loc["shared experts", "quantized_share"] == 0
    expected = sum(
        array.nbytes for name, array in load_file_bytes(ascend).items() if ".mlp.experts." in name
    )
    lost = frame.loc["routed experts", "bytes"] - expected  # LLM.int8() needs no offsets
    assert -4 * 40 * 3 * 12 * 2 * 3 < lost < 0
    planned = pangu.plan.frame.set_index("component")
    assert planned["parameters"].equals(frame["parameters"])
    assert planned["bytes"].equals(frame["bytes"])


@pytest.mark.parametrize("architecture", LINEARS)
def test_norms_and_modules_with_added_biases_are_computed(architecture, tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path, architecture, (SCHEMES["w8a8-dynamic"],))
    plain = logits_of(load(ascend, bits=16, device="cpu"))
    shift = np.linspace(-0.7, 0.9, 120, dtype=np.float32)
    linears = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "mlp.gate", "lm_head")

    def smooth(tensors):
        """Norms give `shift` more; the modules behind them take it back in their biases."""
        for name in [name for name in tensors if name.endswith("norm.weight")]:
            tensors[name.replace("weight", "bias")] = shift
        for name in [name for name in tensors if name.endswith(".weight")]:
            module = name.removesuffix(".weight")
            if not module.endswith(linears):
                continue
            weight = tensors[name].astype(np.float64)
            if tensors[name].dtype == np.int8:
                weight = weight * tensors[f"{module}.weight_scale"]
            bias = tensors.get(f"{module}.bias", 0) - weight @ shift
            tensors[f"{module}.bias"] = bias.astype(np.float32)

    change_tensors(ascend, smooth)
    shifted = load(ascend, bits=16, device="cpu")
    torch.testing.assert_close(logits_of(shifted), plain, rtol=1e-3, atol=1e-3)
    for bits in (4, None):
        pangu = load(ascend, bits=bits, device="cpu")
        assert logits_of(pangu).isfinite().all()
        parameters = pangu.plan.frame.set_index("component")["parameters"]
        assert parameters.equals(pangu.receipt.frame.set_index("component")["parameters"])
    trace = shifted.trace("床前明月光", max_new_tokens=2)
    assert trace.token_ids.shape[0] > 2
    with pytest.raises(QuantizationError, match=r"norm\.bias in .* is not 0|bias in .* is not 0"):
        quantize_checkpoint(ascend, tmp_path / "converted", 4)


def test_norms_stored_under_the_older_names_are_the_norms(tmp_path):
    ascend, meant = make_ascend_checkpoint(tmp_path)
    name = "model.layers.1.input_layernorm"

    def rename(tensors):
        tensors[f"{name}.module.weight"] = tensors[f"{name}.weight"].copy()
        tensors[f"{name}.module.bias"] = np.zeros(120, np.float32)
        tensors["model.norm.module.weight"] = tensors.pop("model.norm.weight")

    change_tensors(ascend, rename)
    ours, reference = load(ascend, bits=16, device="cpu"), load(meant, bits=16, device="cpu")
    torch.testing.assert_close(logits_of(ours), logits_of(reference), rtol=1e-4, atol=1e-4)
    change_tensors(ascend, lambda tensors: tensors[f"{name}.module.weight"].__imul__(2))
    with pytest.raises(CheckpointError, match=r"two different norms, .*input_layernorm\.module"):
        open_checkpoint(ascend)


def test_scales_of_activations_are_left_out(tmp_path):
    ascend, meant = make_ascend_checkpoint(tmp_path)
    more = {
        "model.layers.0.self_attn.k_proj.kv_cache_scale": np.ones(40, np.float32),
        "model.layers.0.self_attn.k_proj.kv_cache_offset": np.zeros(40, np.float32),
        "model.layers.0.self_attn.fa_q.scale": np.ones((6, 1), np.float32),
        "model.layers.1.self_attn.o_proj.reduce_scale": np.ones(1, np.float32),
    }
    change_tensors(ascend, lambda tensors: tensors.update(more))
    change_json(ascend / DESCRIPTION, **{"model.layers.0.self_attn.fa_q.scale": "FAQuant"})
    ours, reference = load(ascend, bits=16, device="cpu"), load(meant, bits=16, device="cpu")
    torch.testing.assert_close(logits_of(ours), logits_of(reference), rtol=1e-4, atol=1e-4)


def test_a_quantized_head_and_router_are_dequantized(tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path)
    exact = {}

    def more(tensors):
        for name in ("lm_head", "model.layers.0.mlp.gate"):
            weight = tensors.pop(f"{name}.weight")
            scale = np.abs(weight).max(axis=1, keepdims=True) / 127
            tensors[f"{name}.weight"] = np.round(weight / scale).astype(np.int8)
            tensors[f"{name}.weight_scale"] = scale
            tensors[f"{name}.weight_offset"] = np.zeros_like(scale)
            exact[name] = tensors[f"{name}.weight"] * scale

    change_tensors(ascend, more)
    kinds = {f"{name}.weight": "W8A8_DYNAMIC" for name in ("lm_head", "model.layers.0.mlp.gate")}
    change_json(ascend / DESCRIPTION, **kinds)
    pangu = load(ascend, device="cpu")
    gate, head = pangu.model.model.layers[0].mlp.gate.weight, pangu.model.lm_head.weight
    assert gate.dtype == torch.float32
    assert head.dtype == torch.bfloat16
    assert np.allclose(gate.numpy(), exact["model.layers.0.mlp.gate"], rtol=1e-6)
    assert np.allclose(head.float().numpy(), exact["lm_head"], rtol=2**-8, atol=1e-6)
    assert logits_of(pangu).isfinite().all()


def test_a_bias_of_the_static_type_follows_from_its_whole_numbers():
    parts = {
        "weight": torch.tensor([[3, -5], [100, 27], [-128, 4]], dtype=torch.int8),
        "input_scale": torch.tensor([0.5]),
        "input_offset": torch.tensor([-7.0]),
        "deq_scale": torch.tensor([0.25, 0.125, 2.0]),
        "quant_bias": torch.tensor([6, 889, -868], dtype=torch.int32),
    }
    stored = decode("layer", "W8A8", parts)
    assert stored.scale.tolist() == [[0.5], [0.25], [4.0]]
    assert stored.bias.tolist() == [0.25 * (6 + 14), 0.0, 2.0 * (-868 + 868)]
    assert stored.dequantized(2).tolist() == [[1.5, -2.5], [25.0, 6.75], [-512.0, 16.0]]
    assert not stored.bias_is_rounding
