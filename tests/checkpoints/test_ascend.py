"""Ascend's quantized checkpoints mean the numbers that their documentation says."""

import json
import logging

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.helpers.ascend_files import (
    SCHEMES,
    change_json,
    change_tensors,
    make_ascend_checkpoint,
    to_bfloat16,
    write_linear,
)
from workbench import load, open_checkpoint
from workbench.errors import CheckpointError, QuantizationError
from workbench.linear import ascend_linear
from workbench.linear.ascend_linear import AscendLinear, decode
from workbench.linear.float32_linear import Linear8bitLt
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import Filler
from workbench.loading.plan import make_plan

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


@pytest.fixture(scope="module", params=SCHEMES)
def written(request, tmp_path_factory):
    """Ascend's folder, the folder of what is meant, and the scheme; MoE and dense in turn."""
    architecture = list(LINEARS)[list(SCHEMES).index(request.param) % 2]
    folder = tmp_path_factory.mktemp(request.param)
    scheme = SCHEMES[request.param]
    return *make_ascend_checkpoint(folder, architecture, (scheme,)), scheme, architecture


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


def test_symmetric_8_bit_becomes_llm_int8_without_loss(tmp_path):
    schemes = (SCHEMES["w8a16"], SCHEMES["w8a8-dynamic"], SCHEMES["w8a8-mix"])
    ascend, _ = make_ascend_checkpoint(tmp_path, schemes=schemes)
    stored, pangu = load_file(ascend / WEIGHTS), load(ascend, device="cpu")
    linears = [name for name in stored if name.endswith("_proj.weight")]
    assert len(linears) == 2 * (4 + 3 * 13)
    for name in linears:
        module = pangu.model.get_submodule(name.removesuffix(".weight"))
        assert np.array_equal(module.weight.data.numpy(), stored[name])
        scale = stored[f"{name}_scale"][:, 0].astype(np.float64)
        told = module.weight.SCB.numpy().astype(np.float64) / 127
        assert np.abs(told / scale - 1).max() <= 2**-24  # one rounding of float32


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


def load_file_bytes(folder):
    from safetensors.torch import load_file as load_torch_file

    return load_torch_file(folder / WEIGHTS)


@pytest.mark.parametrize("name", ["w8a16", "w8a16-group", "w4a16-group"])
def test_other_bits_are_rounded_again_and_a_warning_says_so(name, tmp_path, caplog):
    ascend, meant = make_ascend_checkpoint(tmp_path, schemes=(SCHEMES[name],))
    for bits, kind in ((4, "nf4"), (8, "int8")):
        caplog.clear()
        pangu = load(ascend, bits=bits, device="cpu")
        told = [r.getMessage() for r in caplog.records if "second time" in r.getMessage()]
        own = bits == open_checkpoint(ascend).stored_bits
        assert len(told) == (0 if own else 1)
        if not own:
            stored = pangu.receipt.frame.set_index("component")["stored"]
            assert stored["routed experts"] == kind
            assert logits_of(pangu).isfinite().all()
    weight = load_file(meant / "model.safetensors")["model.layers.0.mlp.experts.2.up_proj.weight"]
    module = load(ascend, bits=8 if name == "w4a16-group" else 4, device="cpu").model
    module = module.get_submodule("model.layers.0.mlp.experts.2.up_proj")
    columns = output_of(module, torch.eye(120, dtype=torch.bfloat16)).numpy().T
    assert 0 < np.linalg.norm(columns - weight) / np.linalg.norm(weight) < 0.11


def test_symmetric_4_bit_loses_nothing_in_8_bit(tmp_path, caplog):
    ascend, meant = make_ascend_checkpoint(tmp_path, schemes=(SCHEMES["w4a16"],))
    pangu = load(ascend, bits=8, device="cpu")
    assert not [r for r in caplog.records if "second time" in r.getMessage()]
    name = "model.layers.1.mlp.experts.5.down_proj"
    module = pangu.model.get_submodule(name).weight
    means = module.data.numpy() * module.SCB.numpy()[:, None] / 127
    weight = load_file(meant / "model.safetensors")[f"{name}.weight"]
    assert np.allclose(means, weight, rtol=1e-6, atol=0)


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


# -- conversion -----------------------------------------------------------------------------------


def test_converting_symmetric_8_bit_keeps_every_number(tmp_path):
    schemes = (SCHEMES["w8a16"], SCHEMES["w8a8-static"], SCHEMES["w8a8-mix"])
    ascend, _ = make_ascend_checkpoint(tmp_path, schemes=schemes)
    folder = quantize_checkpoint(ascend, tmp_path / "int8", 8)
    before, after = load(ascend, device="cpu"), load(folder, device="cpu")
    assert after.receipt.frame.equals(before.receipt.frame)
    assert after.bits == 8
    torch.testing.assert_close(logits_of(after), logits_of(before), rtol=0, atol=0)
    assert not list(folder.glob("quant_model*"))
    assert "quantize" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("name", ["w4a16-group", "w8a8-dynamic", "w4a16-unpacked", "w8a8-static"])
def test_converting_to_other_bits_goes_through_the_dequantized_weights(bits, name, tmp_path):
    ascend, meant = make_ascend_checkpoint(tmp_path, "PanguEmbedded", (SCHEMES[name],))
    to_bfloat16(ascend, WEIGHTS)
    folder = quantize_checkpoint(ascend, tmp_path / "converted", bits)
    pangu, weights = load(folder, bits=bits, device="cpu"), load_file(meant / "model.safetensors")
    linear = "model.layers.1.mlp.down_proj"
    module, weight = pangu.model.get_submodule(linear), weights[f"{linear}.weight"]
    columns = output_of(module, torch.eye(88, dtype=torch.bfloat16)).numpy().T
    bound = {4: 0.11, 8: 0.015, 16: 0.003}[bits]
    assert np.linalg.norm(columns - weight) / np.linalg.norm(weight) < bound
    expected = {4: "nf4", 8: "int8", 16: "bf16"}[bits]
    stored = pangu.receipt.frame.set_index("component")["stored"]
    assert stored["feed-forward"] == expected


def test_saving_what_stays_as_stored_is_refused_with_what_to_do(tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path)
    with pytest.raises(QuantizationError, match=r"Copy that folder .* workbench quantize"):
        load(ascend, device="cpu").save(tmp_path / "saved")
    load(ascend, bits=4, device="cpu").save(tmp_path / "saved")
    assert load(tmp_path / "saved", device="cpu").bits == 4


def test_a_kind_of_4_bit_is_refused_where_it_would_not_be_used(tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path, "PanguEmbedded", (SCHEMES["w4a16"],))
    with pytest.raises(QuantizationError, match=r"stored, in w4a16, .* Leave quant_type out"):
        load(ascend, device="cpu", quant_type="fp4")
    written = quantize_checkpoint(ascend, tmp_path / "fp4", 4, "fp4")
    assert load(written, device="cpu", quant_type="fp4").bits == 4


# -- what is refused, and other names of files ----------------------------------------------------

K = "model.layers.1.self_attn.k_proj"


def described(folder, **kinds):
    change_json(folder / DESCRIPTION, **{key.replace("__", "."): kinds[key] for key in kinds})


def unknown_type(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": "W4A8_DYNAMIC"})


def not_described(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": None})


def no_name_of_a_type(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": 8})


def described_as_float(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": "FLOAT"})


def described_as_quantized(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight": np.ones((40, 120), np.float32)}))


def described_as_another_type(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": "W8A8"})


def no_scale(folder):
    change_tensors(folder, lambda t: t.pop(f"{K}.weight_scale"))


def no_offset(folder):
    change_tensors(folder, lambda t: t.pop(f"{K}.weight_offset"))


def short_scale(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight_scale": np.ones((39, 1), np.float32)}))


def uneven_groups(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight_scale": np.ones((40, 7), np.float32)}))


def other_groups_of_offsets(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight_scale": np.ones((40, 6), np.float32)}))


def half_a_weight(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight": t[f"{K}.weight"][:, :60]}))


def whole_scale(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.weight_scale": np.ones((40, 1), np.int32)}))


def added_bias_of_another_size(folder):
    name = "model.layers.1.input_layernorm.bias"
    change_tensors(folder, lambda t: t.update({name: np.ones(119, np.float32)}))


def rotation(folder):
    name = "model.layers.1.self_attn.o_proj.heads_rotation"
    change_tensors(folder, lambda t: t.update({name: np.ones((6, 6), np.float32)}))


def left_over(folder):
    change_tensors(folder, lambda t: t.update({f"{K}.scale_bias": np.ones((40, 1), np.float32)}))


def missing_weight(folder):
    change_tensors(folder, lambda t: t.pop(f"{K}.weight"))


def another_layer(folder):
    name = "model.layers.2.self_attn.k_proj"
    for part in ("weight", "weight_scale", "weight_offset"):
        change_tensors(folder, lambda t, p=part: t.update({f"{name}.{p}": t[f"{K}.{p}"]}))
    change_json(folder / DESCRIPTION, **{f"{name}.weight": "W8A16"})


def description_is_no_json(folder):
    (folder / DESCRIPTION).write_text("W8A16")


def two_descriptions(folder):
    (folder / "quant_model_description_w8a16.json").write_text("{}")


def damaged_number(folder):
    change_tensors(folder, lambda t: t[f"{K}.weight_scale"].fill(np.nan))


def truncated(folder):
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-10])


def no_file(folder):
    (folder / WEIGHTS).unlink()


def second_file_without_index(folder):
    (folder / "quant_model_weight_w8a8.safetensors").write_bytes((folder / WEIGHTS).read_bytes())


def type_is_a_list(folder):
    change_json(folder / DESCRIPTION, **{f"{K}.weight": ["W8A16"]})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (type_is_a_list, r"k_proj\.weight .* quantized as \['W8A16'\], which is not supported"),
        (unknown_type, r"k_proj\.weight .* quantized as 'W4A8_DYNAMIC', which is not supported"),
        (no_name_of_a_type, r"k_proj\.weight .* quantized as 8, which is not supported"),
        (not_described, r"does not say how .*k_proj\.weight is stored"),
        (described_as_float, r"k_proj\.weight .* described as FLOAT and stored as I8"),
        (described_as_quantized, r"k_proj\.weight is F32 \[40, 120\]; .* W8A16 has I8 \[40, 120\]"),
        (described_as_another_type, r"k_proj\.deq_scale is missing .* type W8A8 needs weight, deq"),
        (no_scale, r"k_proj\.weight_scale is missing .* type W8A16 needs weight, weight_scale"),
        (no_offset, r"k_proj\.weight_offset is missing"),
        (short_scale, r"k_proj\.weight_scale is F32 \[39, 1\]; .*\[40\] or \[40, 1\]"),
        (uneven_groups, r"k_proj\.weight_scale is F32 \[40, 7\]"),
        (other_groups_of_offsets, r"k_proj\.weight_scale and \.weight_offset .* differ in shape"),
        (half_a_weight, r"k_proj\.weight is I8 \[40, 60\]"),
        (whole_scale, r"k_proj\.weight_scale is I32"),
        (added_bias_of_another_size, r"input_layernorm\.bias has shape \[119\], expected \[120\]"),
        (rotation, r"heads_rotation .* changes activations"),
        (left_over, r"k_proj\.scale_bias is in .* and not in the model"),
        (missing_weight, r"k_proj\.weight is missing"),
        (another_layer, r"model\.layers\.2\..* is in .* and not in the model"),
        (description_is_no_json, "is not JSON"),
        (two_descriptions, "holds 2 descriptions"),
        (damaged_number, r"k_proj\.weight_scale .* NaN or infinity"),
        (truncated, "ends early"),
        (no_file, "holds no weights"),
        (second_file_without_index, "no index that says which belong together"),
    ],
)
@pytest.mark.parametrize("bits", [None, 16])
def test_a_damaged_ascend_checkpoint_is_refused_in_its_own_words(damage, message, bits, tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path)
    damage(ascend)
    with pytest.raises(CheckpointError, match=message):
        load(ascend, bits=bits, device="cpu")


def no_input_scale(tensors):
    tensors[f"{K}.input_scale"][:] = 0


def not_a_number(tensors):
    tensors[f"{K}.deq_scale"] = np.full(40, 0x7FC00000, np.int64)


def more_than_32_bits(tensors):
    tensors[f"{K}.deq_scale"] = tensors[f"{K}.deq_scale"].view(np.int32).astype(np.int64) | 1 << 40


@pytest.mark.parametrize("change", [no_input_scale, not_a_number, more_than_32_bits])
@pytest.mark.parametrize("bits", [None, 4, 16])
def test_static_numbers_that_give_no_weights_are_refused(change, bits, tmp_path):
    ascend, _ = make_ascend_checkpoint(tmp_path, schemes=(SCHEMES["w8a8-static"],))
    change_tensors(ascend, change)
    with pytest.raises(CheckpointError, match=r"k_proj\.deq_scale .* the file is damaged"):
        load(ascend, bits=bits, device="cpu")


def test_other_names_of_the_files_are_found(tmp_path):
    ascend, meant = make_ascend_checkpoint(tmp_path)
    expected = logits_of(load(meant, bits=16, device="cpu"))

    def same():
        ours = logits_of(load(ascend, bits=16, device="cpu"))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)

    old = ascend / "quant_model_weight_w8a16.safetensors"
    (ascend / WEIGHTS).rename(old)
    (ascend / DESCRIPTION).rename(ascend / "quant_model_description_w8a16.json")
    of_the_source = {"weight_map": {"lm_head.weight": "model-00001-of-00004.safetensors"}}
    (ascend / "model.safetensors.index.json").write_text(json.dumps(of_the_source))
    same()
    part = ascend / "quant_model_weights-00001-of-00001.safetensors"
    old.rename(part)
    index = {"weight_map": {name: part.name for name in load_file(part)}}
    (ascend / "quant_model_weights.safetensors.index.json").write_text(json.dumps(index))
    same()
    description = json.loads((ascend / "quant_model_description_w8a16.json").read_text())
    (ascend / "quant_model_description_w8a16.json").unlink()
    change_json(ascend / "config.json", quantization_config=description, quantize=None)
    same()


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


def test_an_ascend_module_says_what_it_is():
    assert "kind='W4A16'" in str(AscendLinear(120, 40, "W4A16"))


def test_loading_says_nothing_where_nothing_is_lost(tmp_path, caplog):
    ascend, _ = make_ascend_checkpoint(tmp_path)
    with caplog.at_level(logging.WARNING, "workbench"):
        load(ascend, device="cpu")
    assert not [record for record in caplog.records if record.name == "workbench"]


@pytest.mark.parametrize("name", ["w8a16-group", "w4a16-offset", "w4a16-group", "w4a16-unpacked"])
def test_a_module_that_is_dequantized_in_pieces_computes_the_same(name, monkeypatch):
    scheme, random = SCHEMES[name], np.random.default_rng(3)
    weight = random.normal(size=(46, 24)).astype(np.float32)
    tensors, meant, _ = write_linear("m", weight, None, scheme, random)
    module = AscendLinear(24, 46, scheme.kind)
    parts = {key.removeprefix("m."): torch.from_numpy(tensors[key]) for key in tensors}
    module.fill(decode("layer", scheme.kind, parts), "cpu")
    x = random.normal(size=(2, 3, 24)).astype(np.float32)
    for chunk in (1, 24 * 10, 1 << 20):  # pieces of 2, of 10 and of 46 rows
        monkeypatch.setattr(ascend_linear, "CHUNK", chunk)
        ours = output_of(module, torch.from_numpy(x)).numpy()
        assert np.allclose(ours, x.astype(np.float64) @ meant.T, atol=1e-5)


def test_an_emptied_module_is_filled_again(tmp_path):
    schemes = (SCHEMES["w4a16-group"], SCHEMES["w8a8-static"])
    ascend, _ = make_ascend_checkpoint(tmp_path, schemes=schemes)
    checkpoint = open_checkpoint(ascend)
    filler = Filler(make_plan(checkpoint, 4, "cpu"))
    for module in filler.modules:
        filler.fill(module)
    kinds = {type(module) for module in filler.quantized.values()}
    assert kinds == {AscendLinear, Linear8bitLt}
    before = {name: tensor.clone() for name, tensor in filler.model.named_parameters()}
    for module in filler.modules:
        filler.empty(module)
    assert {parameter.device.type for parameter in filler.model.parameters()} == {"meta"}
    for module in filler.modules:
        filler.fill(module)
    for name, parameter in filler.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("architecture", LINEARS)
@pytest.mark.parametrize("bits", [None, 16])
@pytest.mark.parametrize(
    "names", [("w8a8-static", "w8a8-mix"), ("w4a16-group", "w8a16-offset", "w8a16")]
)
def test_from_disk_it_computes_the_same_and_its_receipt_says_the_same(
    names, bits, architecture, tmp_path
):
    schemes = tuple(SCHEMES[name] for name in names)
    ascend, _ = make_ascend_checkpoint(tmp_path, architecture, schemes)
    whole = load(ascend, bits=bits, device="cpu")
    streamed = load(ascend, bits=bits, device="cpu", memory=int(whole.receipt.nbytes * 0.7))
    assert torch.equal(logits_of(streamed), logits_of(whole))
    ours = streamed.receipt.frame.set_index("component").sort_index()
    expected = whole.receipt.frame.set_index("component").sort_index()
    for column in ("parameters", "bytes", "quantized_share"):
        assert ours[column].equals(expected[column]), column
    for told, wanted in zip(ours["stored"], expected["stored"], strict=True):
        assert set(told.split(" + ")) == set(wanted.split(" + "))
