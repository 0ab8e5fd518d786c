"""Several GPUs, as far as a machine without any can tell.

What accelerate shares out, and that a dispatched model is traced the same, is run on the CPU. That
no two tensors meet that stand on different GPUs is checked with PyTorch's fake tensors, which know
their device and refuse to mix, and hold no numbers.
"""

import dataclasses

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError, FakeTensorMode

from workbench import capture, devices, load, open_checkpoint
from workbench.errors import QuantizationError
from workbench.loading import Filler, load_model

IDS = [1, 45, 99, 7, 300, 45, 211]
TWO = "cuda:0+cuda:1"
HALVES = {
    "model.embed_tokens": "cuda:0",
    "model.layers.0": "cuda:0",
    "model.layers.1": "cuda:1",
    "model.layers.2": "cuda:1",
    "model.norm": "cuda:1",
    "model.rotary_emb": "cuda:1",
    "lm_head": "cuda:1",
}


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


@pytest.mark.parametrize("device", ["cuda:0+cpu", "cpu+tpu", "cuda:0+", None, 3])
def test_devices_that_do_not_go_together_are_refused(device, gpus):
    gpus(5, 7)
    with pytest.raises(QuantizationError, match="device is"):
        devices.chosen_device(device)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_accelerate_shares_a_model_out_over_the_gpus(bits, tiny_moe, monkeypatch):
    filler = Filler(open_checkpoint(tiny_moe), bits, "cpu", "nf4", True)
    total = sum(filler.held_bytes(module) for module in filler.modules)
    room = {"cuda:0": int(total * 0.95), "cuda:1": int(total * 1.2)}
    monkeypatch.setattr(devices, "free_bytes", room.__getitem__)
    places = devices.placement(filler.model, TWO, filler.dtype, filler.quantized, bits)
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
        devices.placement(filler.model, TWO, filler.dtype, filler.quantized, bits)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("which", ["tiny_moe", "tiny_dense"])
def test_a_dispatched_model_is_traced_the_same(which, bits, request):
    pangu = load(request.getfixturevalue(which), bits=bits, device="cpu")
    model = load_model(pangu.checkpoint, bits, "cpu", packed=False)
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


def fake_halves(model: nn.Module) -> None:
    """Put the modules of a model on two GPUs that are not there."""
    for name, module in model.named_modules():
        if name:
            place = devices.device_of(name, {"": "cuda:0", **HALVES})
            for kept in (module._parameters, module._buffers):
                for leaf, tensor in kept.items():
                    if tensor is not None:
                        fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=place)
                        is_weight = kept is module._parameters
                        kept[leaf] = nn.Parameter(fake, requires_grad=False) if is_weight else fake


def test_no_tensors_of_different_gpus_meet_while_a_dense_model_is_recorded(tiny_dense):
    pangu = load(tiny_dense, bits=16, device="cpu")
    model = pangu.model
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        fake_halves(model)
        with pytest.raises(FakeTensorDeviceMismatchError):  # the check can fail
            model.model(torch.ones(1, 7, dtype=torch.long, device="cuda:0"), use_cache=False)
        devices.dispatch(model, HALVES)
        with capture.recording(model, [0, 1, 2]) as record:
            model.model(torch.ones(1, 7, dtype=torch.long, device=pangu.device), use_cache=False)
        assert {str(record.parts["query", layer][0].device) for layer in (0, 2)} == {
            "cuda:0",
            "cuda:1",
        }
        assert record.stacked("key", [0, 1, 2]).device.type == "cpu"
        hidden = torch.cat(record.parts["hidden", 0])
        with pytest.raises(RuntimeError, match="numpy"):  # all else went through; no numbers
            capture._predictions(model.lm_head, hidden, IDS, 5)
