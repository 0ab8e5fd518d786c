"""4 and 8 bit: what is quantized, what it weighs, and that saving never depends on running."""

import filecmp
import shutil
from copy import deepcopy

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from bitsandbytes.functional import _convert_weight_packed_for_cpu
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load, open_checkpoint
from workbench.errors import QuantizationError
from workbench.linear import quantization
from workbench.loading import devices
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.plan import make_plan

IDS = [1, 45, 99, 7, 300, 45, 211]


def logits_of(pangu) -> torch.Tensor:
    with torch.inference_mode():
        return pangu.model(torch.tensor([IDS])).logits[0].float()


@pytest.mark.parametrize(
    ("bits", "quant_type", "kind"), [(4, "nf4", "nf4"), (4, "fp4", "fp4"), (8, "nf4", "int8")]
)
@pytest.mark.parametrize("which", ["tiny_moe", "tiny_dense"])
def test_linear_modules_are_quantized_and_nothing_else(which, bits, quant_type, kind, request):
    folder = request.getfixturevalue(which)
    pangu = load(folder, bits=bits, quant_type=quant_type, device="cpu")
    frame = pangu.receipt.frame.set_index("component")
    for component in frame.index:
        quantized = component in ("routed experts", "shared experts", "feed-forward", "attention")
        assert (kind in frame.loc[component, "stored"]) == quantized, component
        assert (frame.loc[component, "quantized_share"] > 0.9) == quantized
    assert frame["parameters"].sum() == sum(
        torch.Size(info.shape).numel() for info in open_checkpoint(folder).tensors.values()
    )
    if hasattr(pangu.model.model.layers[0].mlp, "gate"):
        assert type(pangu.model.model.layers[0].mlp.gate).__name__ == "PanguProMoERouter"


@pytest.mark.parametrize(
    ("bits", "quant_type", "bound"), [(4, "nf4", 0.11), (4, "fp4", 0.2), (8, "nf4", 0.015)]
)
def test_a_quantized_module_computes_with_weights_close_to_the_stored_ones(
    bits, quant_type, bound, tiny_moe
):
    stored = load_file(tiny_moe / "model.safetensors")
    pangu = load(tiny_moe, bits=bits, quant_type=quant_type, device="cpu")
    for name in ("layers.0.self_attn.k_proj", "layers.2.mlp.experts.5.down_proj"):
        module, weight = pangu.model.get_submodule("model." + name), stored[f"model.{name}.weight"]
        with torch.inference_mode():
            columns = module(torch.eye(weight.shape[1], dtype=torch.bfloat16)).float().T
        if module.bias is not None:
            columns = columns - module.bias.float()[:, None]
        error = (columns - weight).norm() / weight.norm()
        assert 0 < error < bound


def test_8_bit_weights_made_in_pieces_are_those_of_bitsandbytes(monkeypatch):
    weight = torch.randn(200, 90, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    weight[5] = 0
    monkeypatch.setattr(quantization, "CHUNK", 64 * 90)  # 3 pieces of 64 rows, one of 8
    module = bnb.nn.Linear8bitLt(90, 200, bias=False, has_fp16_weights=False)
    quantization.quantize(module, "layer", weight, "cpu")
    theirs = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False).to("cpu")
    assert torch.equal(module.weight.CB, theirs.CB)
    assert torch.equal(module.weight.SCB, theirs.SCB)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_plan_foretells_the_receipt(bits, tiny_moe):
    pangu = load(tiny_moe, bits=bits, device="cpu")
    assert pangu.plan.nbytes == pytest.approx(pangu.receipt.nbytes, rel=0.01)
    assert "routed experts" in str(pangu.plan)
    assert "routed experts" in pangu.receipt._repr_html_()


def test_what_does_not_fit_is_refused_and_what_would_fit_is_named(tiny_moe, monkeypatch):
    checkpoint = open_checkpoint(tiny_moe)
    needed = make_plan(checkpoint, 8, "cpu").nbytes
    memory = type("Memory", (), {"available": int(needed / 0.89)})
    monkeypatch.setattr(devices.psutil, "virtual_memory", lambda: memory)
    with pytest.raises(QuantizationError, match=r"bits=8 .* or bits=4"):
        load(tiny_moe, bits=16, device="cpu")
    memory.available = 1000
    with pytest.raises(QuantizationError, match="No precision fits here"):
        load(tiny_moe, bits=4, device="cpu")


@pytest.mark.parametrize(("bits", "quant_type"), [(4, "nf4"), (4, "fp4"), (8, "nf4"), (16, "nf4")])
def test_a_model_that_has_run_saves_the_same_file(bits, quant_type, tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "source", dtype="bfloat16")
    pangu = load(folder, bits=bits, quant_type=quant_type, device="cpu")
    pangu.save(tmp_path / "before")
    expected = logits_of(pangu)
    pangu.save(tmp_path / "after")
    same = filecmp.cmp(
        tmp_path / "before/model.safetensors", tmp_path / "after/model.safetensors", shallow=False
    )
    assert same
    again = load(tmp_path / "after", device="cpu", bits=bits)
    torch.testing.assert_close(logits_of(again), expected, rtol=0, atol=0)
    assert again.receipt.frame.equals(pangu.receipt.frame)
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "after").eval()
    with torch.inference_mode():
        logits = other(torch.tensor([IDS])).logits[0].float()
    assert (logits - expected).norm() < 0.05 * expected.norm()  # sums in another order


def test_a_packed_model_refuses_to_give_its_weights_away_wrong(tiny_moe, tmp_path):
    pangu = load(tiny_moe, bits=4, device="cpu")
    linear = pangu.model.model.layers[0].self_attn.q_proj
    if not linear.support_avx512bf16_for_cpu:
        pytest.skip("this CPU has no packed path")
    with pytest.raises(QuantizationError, match=r"pangu\.save"):
        pangu.model.save_pretrained(tmp_path)


def test_packing_is_done_by_the_load_and_not_by_the_first_prompt(tiny_moe, monkeypatch):
    pangu = load(tiny_moe, bits=4, device="cpu")

    def fail(*_args):
        raise AssertionError("packed in a forward pass")

    monkeypatch.setattr(bnb.nn.modules, "_convert_weight_packed_for_cpu", fail)
    logits_of(pangu)


def test_sizes_that_the_fast_path_cannot_take_still_work(tmp_path):
    folder = make_tiny_checkpoint(
        tmp_path, hidden_size=120, moe_intermediate_size=40, shared_expert_intermediate_size=72
    )
    stored = load_file(folder / "model.safetensors")
    pangu = load(folder, bits=4, device="cpu")
    assert torch.isfinite(logits_of(pangu)).all()
    module = pangu.model.model.layers[1].mlp.experts[2].up_proj
    weight = stored["model.layers.1.mlp.experts.2.up_proj.weight"]
    with torch.inference_mode():
        columns = module(torch.eye(120, dtype=torch.bfloat16)).float().T
    assert 0 < (columns - weight).norm() / weight.norm() < 0.11


def test_other_bits_than_a_quantized_file_holds_are_refused(tiny_dense, tmp_path):
    load(tiny_dense, bits=8, device="cpu").save(tmp_path / "int8")
    assert load(tmp_path / "int8", device="cpu").bits == 8
    with pytest.raises(QuantizationError, match="already quantized to int8"):
        load(tmp_path / "int8", bits=4, device="cpu")


@pytest.mark.parametrize(("stored", "other"), [("nf4", "fp4"), ("fp4", "nf4")])
def test_another_type_than_a_quantized_file_holds_is_refused(stored, other, tiny_dense, tmp_path):
    folder = tmp_path / stored
    load(tiny_dense, bits=4, quant_type=stored, device="cpu").save(folder)
    for quant_type in (None, stored):
        assert load(folder, quant_type=quant_type, device="cpu").quant_type == stored
    with pytest.raises(QuantizationError, match=f"already quantized to {stored}.* in {other}"):
        load(folder, quant_type=other, device="cpu")
    with pytest.raises(QuantizationError, match=f"already quantized to {stored}.* in {other}"):
        quantize_checkpoint(folder, tmp_path / "out", 4, other)
    assert not (tmp_path / "out").exists()
    load(folder, device="cpu").save(tmp_path / "again")
    assert open_checkpoint(tmp_path / "again").stored == stored


def test_8_bit_files_have_no_type_of_4_bits(tiny_dense, tmp_path):
    load(tiny_dense, bits=8, device="cpu").save(tmp_path / "int8")
    pangu = load(tmp_path / "int8", device="cpu")
    pangu.save(tmp_path / "again")
    with pytest.raises(QuantizationError, match="already quantized to int8"):
        load(tmp_path / "int8", quant_type="fp4", device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 3}, "expected 4, 8 or 16"),
        ({"bits": 4, "quant_type": "int4"}, "expected 'nf4' or 'fp4'"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message, tiny_dense):
    with pytest.raises(QuantizationError, match=message):
        load(tiny_dense, **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_a_device_that_is_not_there_is_refused(tiny_dense):
    with pytest.raises(QuantizationError, match="this machine has none"):
        load(tiny_dense, device="cuda")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_files_compute_in_bfloat16_on_a_cpu(dtype, tmp_path):
    folder = make_tiny_checkpoint(tmp_path, "PanguEmbedded", dtype=dtype)
    pangu = load(folder, bits=16, device="cpu")
    assert {p.dtype for p in pangu.model.parameters()} == {torch.bfloat16}


def test_a_number_that_8_bit_cannot_hold_is_refused(tiny_dense, tmp_path):
    folder = tmp_path / "large"
    shutil.copytree(tiny_dense, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = 70_000
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(QuantizationError, match=r"layers\.1\.mlp\.down_proj\.weight .* 65,504"):
        load(folder, bits=8, device="cpu")
    for bits in (4, 16):
        trace = load(folder, bits=bits, device="cpu").trace("To be")
        assert np.isfinite(trace.chosen_logprobs[:-1]).all()


def test_saving_over_the_source_is_refused(tiny_dense, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(tiny_dense, folder)
    with pytest.raises(QuantizationError, match="source checkpoint"):
        load(folder, bits=8, device="cpu").save(folder)


@pytest.mark.parametrize(("quant_type", "nested"), [("nf4", True), ("nf4", False), ("fp4", True)])
@pytest.mark.parametrize("shape", [(32, 64), (96, 192), (64, 320)])
def test_packing_gives_the_same_bytes_as_bitsandbytes(quant_type, nested, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    bytes_4bit, state = bnb.functional.quantize_4bit(
        weight, quant_type=quant_type, compress_statistics=nested
    )
    theirs, their_state = _convert_weight_packed_for_cpu(bytes_4bit.clone(), deepcopy(state))
    assert torch.equal(quantization.packed(bytes_4bit, state), theirs)
    quantization.describe_packed(state)
    assert torch.equal(state.absmax, their_state.absmax)
    assert {k: v for k, v in vars(state).items() if not isinstance(v, torch.Tensor)} == {
        k: v for k, v in vars(their_state).items() if not isinstance(v, torch.Tensor)
    }


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("columns", [32, 37, 90, 96, 160, 224])
def test_rows_that_end_within_a_block_are_computed_with_their_own_scales(quant_type, columns):
    weight = torch.randn(
        (40, columns), generator=torch.Generator().manual_seed(2)
    ) * torch.logspace(-1, 1, 40).unsqueeze(1)
    linear = torch.nn.Sequential(torch.nn.Linear(columns, 40, bias=False))
    module = quantization.replace_linears(linear, 4, quant_type, torch.bfloat16)["0"]
    quantization.quantize(module, "layer", weight.bfloat16(), "cpu")
    quantization.pack(module)
    with torch.inference_mode():
        found = module(torch.eye(columns, dtype=torch.bfloat16)).float().T
    # block by block, by hand
    state, flat = module.weight.quant_state, weight.bfloat16().float().flatten()
    expected = torch.empty_like(flat)
    for start in range(0, len(flat), 64):
        block = flat[start : start + 64]
        scale = block.abs().max()
        nearest = (block[:, None] / scale - state.code[None, :]).abs().argmin(dim=1)
        expected[start : start + 64] = state.code[nearest] * scale
    expected = expected.view(40, columns)
    assert (found - expected).norm() / expected.norm() < 0.02  # double quantization and bf16
