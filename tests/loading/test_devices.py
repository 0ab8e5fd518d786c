"""Several GPUs, as far as a machine without any can tell.

What accelerate shares out is looked at, and a model is run whose second half stands on PyTorch's
lazy device: its tensors are computed on the CPU too and refuse to meet the CPU's own.
"""

import dataclasses

import numpy as np
import pytest
import torch
import torch._lazy.ts_backend
from accelerate import dispatch_model

from workbench import load, open_checkpoint
from workbench.errors import QuantizationError
from workbench.loading import devices
from workbench.loading.filling import Filler, load_model
from workbench.loading.plan import make_plan

IDS = [1, 45, 99, 7, 300, 45, 211]
TWO = "cuda:0+cuda:1"
HALVES = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "lazy:0",
    "model.layers.2": "lazy:0",
    "model.norm": "lazy:0",
    "model.rotary_emb": "lazy:0",
    "lm_head": "lazy:0",
}


@pytest.fixture(scope="session")
def lazy_device():
    torch._lazy.ts_backend.init()  # once a process


@pytest.fixture
def gpus(monkeypatch):
    """As many GPUs as are given, with so much free memory each; nothing can run on them."""

    def pretend(*free):
        cuda = devices.torch.cuda
        monkeypatch.setattr(cuda, "is_available", lambda: bool(free))
        monkeypatch.setattr(cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(
            cuda, "mem_get_info", lambda name: (free[torch.device(name).index or 0], 0)
        )

    return pretend


def test_auto_means_the_cpu_the_one_gpu_or_all_of_them(gpus):
    gpus()
    assert devices.chosen_device("auto") == "cpu"
    gpus(5)
    assert devices.chosen_device("auto") == "cuda"
    gpus(5, 7, 9)
    assert devices.chosen_device("auto") == "cuda:0+cuda:1+cuda:2"
    assert devices.free_bytes("cuda:0+cuda:2") == 14
    assert devices.chosen_device("cuda:1") == "cuda:1"


@pytest.mark.parametrize("device", ["cuda:2", "cuda:0+cuda:3"])
def test_a_gpu_that_is_not_there_is_refused_and_those_that_are_named(device, gpus, tiny_dense):
    gpus(5, 7)
    with pytest.raises(QuantizationError, match="has cuda:0, cuda:1; use device="):
        load(tiny_dense, device=device)
    gpus()
    with pytest.raises(QuantizationError, match='has none; use device="cpu"'):
        load(tiny_dense, device=device)


@pytest.mark.parametrize(
    "device",
    ["cuda:0+cpu", "cpu+tpu", "cuda:0+", None, 3, "cuda:0+cuda:0", "cuda+cuda:0", "cpu+cpu"],
)
def test_devices_that_do_not_go_together_are_refused(device, gpus):
    gpus(5, 7)
    with pytest.raises(QuantizationError, match="device is"):
        devices.chosen_device(device)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_accelerate_shares_a_model_out_over_the_gpus(bits, tiny_moe, monkeypatch):
    filler = Filler(make_plan(open_checkpoint(tiny_moe), bits, "cpu"))
    total = sum(filler.held_bytes(module) for module in filler.modules)
    room = {"cuda:0": int(total * 0.95), "cuda:1": int(total * 1.2)}
    monkeypatch.setattr(devices, "free_bytes", room.__getitem__)
    places = devices.placement(filler.model, TWO, filler.plan.dtype, filler.quantized, bits)
    assert set(places.values()) == {"cuda:0", "cuda:1"}
    held = dict.fromkeys(places.values(), 0)
    for module in filler.modules:
        held[devices.device_of(module, places)] += filler.held_bytes(module)
    assert all(held[name] <= room[name] for name in held)
    for layer in range(3):  # no layer is torn
        names = [name for name in filler.modules if f"layers.{layer}." in name]
        assert len({devices.device_of(name, places) for name in names}) == 1
    room["cuda:1"] = room["cuda:0"] = total // 4
    with pytest.raises(QuantizationError, match="together do not hold the model"):
        devices.placement(filler.model, TWO, filler.plan.dtype, filler.quantized, bits)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("which", ["tiny_moe", "tiny_dense"])
def test_a_dispatched_model_is_traced_the_same(which, bits, request):
    pangu = load(request.getfixturevalue(which), bits=bits, device="cpu")
    model = load_model(make_plan(pangu.checkpoint, bits, "cpu"), packed=False)
    pangu = dataclasses.replace(pangu, model=model)
    expected = pangu.trace(IDS, max_new_tokens=3)
    dispatch_model(
        model,
        dict.fromkeys(HALVES, "cpu"),
        skip_keys=model._skip_keys_device_placement,
        force_hooks=True,
    )
    assert hasattr(model.model.layers[1], "_hf_hook")
    trace = pangu.trace(IDS, max_new_tokens=3)
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(trace.arrays[name], array)


@pytest.mark.parametrize("settings", [{}, {"max_new_tokens": 3}])
@pytest.mark.parametrize("which", ["tiny_moe", "tiny_dense"])
def test_a_model_on_two_kinds_of_device_gives_the_same_trace(
    which, settings, request, monkeypatch, lazy_device
):
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # lazy tensors have no views in it
    pangu = load(request.getfixturevalue(which), bits=16, device="cpu")
    expected, model = pangu.trace(IDS, **settings), pangu.model
    for name, place in HALVES.items():
        model.get_submodule(name).to(place)
    with pytest.raises(RuntimeError, match="not a lazy tensor"):  # the two do not mix by themselves
        model.model(torch.tensor([IDS]))
    devices.dispatch(model, HALVES)
    trace = pangu.trace(IDS, **settings)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu", "lazy"}
    for name, array in expected.arrays.items():
        np.testing.assert_allclose(trace.arrays[name], array, rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(trace.token_ids, expected.token_ids)
