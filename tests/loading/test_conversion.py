"""Conversion on disk: conversion."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load, open_checkpoint
from workbench.checkpoints.checkpoint import JOURNAL
from workbench.cli import main
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import load_model
from workbench.loading.plan import make_plan

IDS = [1, 45, 99, 7, 300, 45, 211]


def logits_of(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits[0].float()


@pytest.mark.parametrize(("bits", "quant_type"), [(4, "nf4"), (4, "fp4"), (8, "nf4")])
def test_what_is_converted_is_bit_for_bit_what_is_quantized_on_load(
    bits, quant_type, source, tmp_path
):
    folder = quantize_checkpoint(source, tmp_path / "out", bits, quant_type, shard_bytes=300_000)
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert not (folder / JOURNAL).exists()
    on_load = load_model(make_plan(open_checkpoint(source), bits, "cpu", quant_type), packed=False)
    from_disk = load_model(make_plan(open_checkpoint(folder), bits, "cpu"), packed=False)
    stored, expected = from_disk.state_dict(), on_load.state_dict()
    assert stored.keys() == expected.keys()
    for name in expected:
        assert stored[name].dtype == expected[name].dtype
        assert torch.equal(stored[name], expected[name]), name


@pytest.mark.parametrize("bits", [4, 8])
def test_transformers_reads_what_was_converted(bits, source, tmp_path):
    folder = quantize_checkpoint(source, tmp_path / "out", bits, shard_bytes=300_000)
    ours = logits_of(load(folder, device="cpu").model)
    theirs = logits_of(AutoModelForCausalLM.from_pretrained(folder).eval())
    torch.testing.assert_close(theirs, ours, rtol=0.02, atol=0.02)


def test_transformers_keeps_a_router_as_exact_as_its_file(tmp_path):
    source = make_tiny_checkpoint(tmp_path / "source", dtype="float32")
    folder = quantize_checkpoint(source, tmp_path / "out", 4)
    ours, theirs = load(folder, device="cpu").model, AutoModelForCausalLM.from_pretrained(folder)
    routers = [
        name for name in ours.state_dict() if name.endswith((".gate.weight", ".router_scale"))
    ]
    assert len(routers) == 2 * ours.config.num_hidden_layers
    for name in routers:
        assert ours.get_parameter(name).dtype is torch.float32
        assert torch.equal(theirs.get_parameter(name), ours.get_parameter(name)), name


def test_the_command_line_converts(moe_source, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["quantize", str(moe_source), str(out), "--bits", "4", "--shard-size", "400KB"]
    assert main(arguments) == 0
    assert f"written to {out}" in capsys.readouterr().out
    assert open_checkpoint(out).stored == "nf4"
    assert main(arguments) == 2
    assert "holds a whole checkpoint already" in capsys.readouterr().err
    assert main([*arguments[:3], "--bits", "4", "--shard-size", "much"]) == 2
    assert "is not a size" in capsys.readouterr().err
