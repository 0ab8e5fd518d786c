"""Ascend's quantized checkpoints mean the numbers that their documentation says: ascend conversion."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.checkpoints.ascend_models import LINEARS, WEIGHTS, logits_of, output_of
from tests.helpers.ascend_files import (
    SCHEMES,
    make_ascend_checkpoint,
    to_bfloat16,
    write_linear,
)
from workbench import load, open_checkpoint
from workbench.linear import ascend_linear
from workbench.linear.ascend_linear import AscendLinear, decode
from workbench.linear.float32_linear import Linear8bitLt
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import Filler
from workbench.loading.plan import make_plan


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
