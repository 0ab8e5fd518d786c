"""A model that is read from disk as it runs does what it does in memory, within its budget: streaming budget."""

import numpy as np
import pytest
import torch

import workbench.loading.devices as devices
from tests.loading.on_disk import IDS, filled_bytes, least_bytes
from workbench import Sampling, load
from workbench.cli import main
from workbench.errors import QuantizationError
from workbench.loading.filling import Filler
from workbench.loading.sizes import size_in_bytes, size_to_ask_for
from workbench.loading.units import needed_bytes
from workbench.traces.trace import Trace


@pytest.mark.parametrize("room", [0, 60_000, 400_000])
@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("which", ["moe", "dense"])
def test_results_are_those_of_the_model_in_memory_bit_for_bit(which, bits, room, stored):
    folder = stored(which, bits)
    whole = load(folder, bits=bits, device="cpu")
    pangu = load(folder, bits=bits, device="cpu", memory=least_bytes(folder, bits) + room)
    assert whole.streaming is None
    assert pangu.streaming is not None
    for settings in ({}, {"max_new_tokens": 6}):
        expected, trace = whole.trace(IDS, **settings), pangu.trace(IDS, **settings)
        assert sorted(trace.arrays) == sorted(expected.arrays)
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(trace.arrays[name], array, err_msg=name)
    sampling = Sampling(temperature=1.5, top_p=1.0, top_k=0, seed=3)
    assert pangu.generate(IDS, 8, sampling) == whole.generate(IDS, 8, sampling)
    with torch.inference_mode():
        ids = torch.tensor([IDS])
        assert torch.equal(pangu.model(ids).logits, whole.model(ids).logits)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("which", ["moe", "dense"])
def test_the_weights_in_memory_never_exceed_the_budget(which, bits, stored, monkeypatch):
    folder, fill, most = stored(which, bits), Filler.fill, []

    def measured(self, module_name):
        fill(self, module_name)
        most.append(filled_bytes(self.model))

    least = least_bytes(folder, bits)
    monkeypatch.setattr(Filler, "fill", measured)
    for budget in (least, least + 50_000, least + 300_000):
        most.clear()
        pangu = load(folder, bits=bits, device="cpu", memory=budget)
        pangu.trace(IDS, max_new_tokens=4)
        assert max(most) <= budget
        assert filled_bytes(pangu.model) <= pangu.streaming.held_bytes <= budget
        assert which == "dense" or pangu.streaming.held_bytes > budget / 2


def test_the_account_is_close_to_what_is_really_held(stored):
    for bits in (4, 8, 16):
        folder = stored("moe", bits)
        pangu = load(folder, bits=bits, device="cpu", memory=least_bytes(folder, bits) + 300_000)
        pangu.trace(IDS)
        assert filled_bytes(pangu.model) == pytest.approx(pangu.streaming.held_bytes, rel=0.01)


def test_with_more_memory_less_is_read(stored):
    folder, read = stored("moe", 4), []
    least, whole = least_bytes(folder, 4), load(folder, device="cpu").receipt.nbytes
    for allowed in (least, least + 100_000, least + 400_000, whole - 50_000):
        pangu = load(folder, device="cpu", memory=allowed)
        pangu.generate(IDS, 12, Sampling(temperature=1.0, seed=1))
        read.append(pangu.streaming.bytes_read)
    assert read == sorted(read, reverse=True)
    assert read[0] > 2 * read[-1]
    assert pangu.streaming.hit_rate > 0.5  # nearly everything stays


@pytest.mark.parametrize(("which", "bits"), [("moe", 4), ("dense", 8)])
def test_the_smallest_budget_is_known_beforehand_and_a_smaller_one_refused(which, bits, stored):
    folder = stored(which, bits)
    least = least_bytes(folder, bits)
    exact = needed_bytes(load(folder, device="cpu", memory=least).streaming.units, ())
    assert exact <= least <= exact * 1.01 + 10_000
    load(folder, device="cpu", memory=exact).trace(IDS)
    with pytest.raises(QuantizationError, match='Pass memory="'):
        load(folder, device="cpu", memory=exact - 1)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_plan_and_receipt_tell_what_is_on_disk_and_what_is_held(bits, stored):
    folder = stored("moe", bits)
    whole = load(folder, bits=bits, device="cpu")
    budget = least_bytes(folder, bits) + 200_000
    pangu = load(folder, bits=bits, device="cpu", memory=budget)
    told, known = (x.receipt.frame.set_index("component") for x in (pangu, whole))
    told = told.loc[known.index]
    assert (told["parameters"] == known["parameters"]).all()
    assert (told["stored"].map(sorted) == known["stored"].map(sorted)).all()
    np.testing.assert_allclose(told["quantized_share"], known["quantized_share"])
    np.testing.assert_allclose(told["bytes"], known["bytes"], rtol=0.012)  # 64 bytes of codes
    assert told["kept_bytes"].sum() == pangu.streaming.kept_bytes
    assert filled_bytes(pangu.model) == pytest.approx(told["kept_bytes"].sum(), rel=0.01)
    assert pangu.plan.memory_bytes == pangu.receipt.memory_bytes == budget
    assert "left on disk" in str(pangu.plan)
    assert "left on disk" in str(pangu.receipt)
    assert "kept_bytes" in pangu.receipt._repr_html_()
    assert pangu.trace(IDS).meta["receipt"]["memory_bytes"] == budget
    assert "memory_bytes" not in whole.receipt.summary


def test_the_copied_cell_loads_the_model_with_the_same_memory(stored):
    folder = stored("moe", 8)
    least = least_bytes(folder, 8)
    pangu = load(str(folder), device="cpu", memory=least + 1000)
    cell = {}
    exec(pangu.generate(IDS, 2).to_python(), cell)
    assert cell["pangu"].streaming is not None
    assert cell["pangu"].plan.allowed_bytes == least + 1000
    recipe = load(str(folder), device="cpu", memory="1GB").generate(IDS, 2).recipe
    assert "memory='1GB')" in recipe.to_python()
    older = recipe.as_dict()
    del older["memory"]
    assert "memory" not in type(recipe).from_dict(older).to_python()


def test_a_model_that_the_memory_holds_is_loaded_whole(stored):
    folder = stored("moe", 4)
    pangu = load(folder, device="cpu", memory="1GB")
    assert pangu.streaming is None
    assert "whole in memory (1.00 GB allowed)" in str(pangu.plan)
    assert "whole in memory" in repr(pangu)
    assert load(folder, device="cpu", memory="auto").streaming is None
    assert "whole in memory" not in repr(load(folder, device="cpu"))


def test_a_16_bit_file_is_not_quantized_again_and_again(stored):
    with pytest.raises(QuantizationError, match=r"python -m workbench quantize .* --bits 4"):
        load(stored("moe", 16), bits=4, device="cpu", memory="300KB")


def test_what_does_not_fit_is_told_of_the_way_from_disk(stored, monkeypatch):
    folder = stored("moe", 4)
    memory = type("Memory", (), {"available": 500_000})
    monkeypatch.setattr(devices.psutil, "virtual_memory", lambda: memory)
    with pytest.raises(QuantizationError, match=r'load it with memory="auto"'):
        load(folder, device="cpu")
    with pytest.raises(QuantizationError, match=r'--bits 4.*FOLDER with memory="auto"'):
        load(stored("moe", 16), bits=4, device="cpu")
    pangu = load(folder, device="cpu", memory="auto")
    assert pangu.streaming.memory_bytes == 450_000
    pangu.trace(IDS)
    with pytest.raises(QuantizationError, match=r"memory allows 600\.00 KB"):
        load(folder, device="cpu", memory=600_000)


@pytest.mark.parametrize("memory", ["much", "-3GB", "3 apples", "1e400", "1e-3GB", float("inf"), 0])
def test_a_budget_that_is_no_size_is_refused(memory, stored):
    with pytest.raises(QuantizationError, match="is not a size"):
        load(stored("dense", 16), bits=16, device="cpu", memory=memory)


@pytest.mark.parametrize("memory", [1e16, 10**16, "1e16", "1e+16", "1e+4TB", "10000 tb"])
def test_a_size_may_be_written_in_many_ways(memory):
    assert size_in_bytes(memory) == 10**16


@pytest.mark.parametrize("memory", ["20", 20, "8000"])
def test_a_budget_whose_unit_was_forgotten_is_refused(memory, stored):
    with pytest.raises(QuantizationError, match=f"has no unit .* write {memory}GB"):
        load(stored("dense", 16), bits=16, device="cpu", memory=memory)


@pytest.mark.parametrize(("which", "bits"), [("moe", 4), ("dense", 8), ("moe", 16)])
def test_the_plan_knows_the_smallest_budget(which, bits, stored, capsys):
    folder = stored(which, bits)
    asked = ["inspect", str(folder), "--bits", str(bits), "--device", "cpu", "--plan-only"]
    least = needed_bytes(
        load(folder, bits, "cpu", memory=least_bytes(folder, bits)).streaming.units, ()
    )
    assert main([*asked, "--memory", f"{least}B"]) == 0
    assert "GB free: fits." in capsys.readouterr().out
    assert main([*asked, "--memory", f"{least - 1}B"]) == 0
    told = capsys.readouterr().out
    assert f"does not fit; the minimum is {size_to_ask_for(least)}." in told
    assert size_in_bytes(size_to_ask_for(least)) == least_bytes(folder, bits)


def test_the_plan_says_what_has_to_be_converted_first(stored, capsys):
    asked = ["inspect", str(stored("moe", 16)), "--bits", "4", "--plan-only", "--device", "cpu"]
    assert main([*asked, "--memory", "300KB"]) == 0
    told = capsys.readouterr().out
    assert "does not fit; to leave it on disk, convert it once: python -m workbench" in told
    assert main([*asked, "--memory", "1GB"]) == 0
    assert "(1.00 GB allowed)" in (told := capsys.readouterr().out)
    assert "GB free: fits." in told


def test_the_plan_refuses_a_type_that_the_file_does_not_hold(stored, capsys):
    asked = ["inspect", str(stored("moe", 4)), "--quant-type", "fp4", "--plan-only"]
    assert main(asked) == 2
    assert "already quantized to nf4" in capsys.readouterr().err


def test_the_command_line_traces_from_disk(stored, tmp_path, capsys):
    folder, out = str(stored("moe", 4)), tmp_path / "text.trace"
    memory = str(least_bytes(folder, 4) + 50_000)
    arguments = ["trace", folder, "--prompt", "To be", "--memory", memory, "--out", str(out)]
    assert main([*arguments, "--device", "cpu", "--max-new-tokens", "2"]) == 0
    assert "found in memory" in capsys.readouterr().out
    expected = load(folder, device="cpu").trace("To be", max_new_tokens=2)
    np.testing.assert_array_equal(
        Trace.load(out).arrays["router_logits"], expected.arrays["router_logits"]
    )
    assert main(["inspect", folder, "--memory", memory, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("left on disk") == 2
    assert main(["inspect", folder, "--memory", "1KB", "--device", "cpu"]) == 2
    assert "the minimum is" in capsys.readouterr().err
