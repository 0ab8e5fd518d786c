"""A model that is read from disk as it runs does what it does in memory, within its budget: streaming trouble."""

import os
import shutil
import threading

import numpy as np
import pytest
import torch
import traitlets

from tests.helpers.tiny import make_tiny_checkpoint
from tests.loading.on_disk import IDS, filled_bytes, least_bytes
from workbench import Playground, PromptMatrix, load
from workbench.checkpoints import reading
from workbench.checkpoints.shards import read_header
from workbench.errors import CheckpointError, QuantizationError
from workbench.loading import filling as loading
from workbench.views import AttentionView, ComparisonView, PromptMatrixView, RoutingView


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("which", ["moe", "dense"])
def test_an_interruption_leaves_a_usable_model(which, bits, error, stored, monkeypatch):
    folder = stored(which, bits)
    expected = load(folder, device="cpu").trace(IDS)
    pangu = load(folder, device="cpu", memory=least_bytes(folder, bits) + 20_000)
    read, at = loading.read_tensor, [0]

    def interrupted(*arguments):
        at[0] -= 1
        if at[0] == 0:
            raise error
        return read(*arguments)

    monkeypatch.setattr(loading, "read_tensor", interrupted)
    stopped = 0
    for count in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
        at[0] = count
        try:
            pangu.trace(IDS)
        except error:
            stopped += 1
        assert filled_bytes(pangu.model) <= pangu.streaming.held_bytes
        assert not pangu.streaming._in_use
        at[0] = 0
    assert stopped >= 5
    trace = pangu.trace(IDS)
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(trace.arrays[name], array)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_while_a_layer_computes_leaves_a_usable_model(error, stored):
    folder = stored("moe", 4)
    pangu = load(folder, device="cpu", memory=least_bytes(folder, 4))
    expected = pangu.trace(IDS).arrays["top_logprobs"]

    def fail(*_):
        raise error

    for name in ("layers.1.mlp.experts", "layers.2.self_attn.q_proj", "norm"):
        handle = pangu.model.model.get_submodule(name).register_forward_hook(fail)
        with pytest.raises(error):
            pangu.trace(IDS)
        handle.remove()
    assert not pangu.streaming._in_use
    done = []
    other = threading.Thread(target=lambda: done.append(pangu.trace(IDS)))  # the lock is free
    other.start()
    other.join(30)
    np.testing.assert_array_equal(done[0].arrays["top_logprobs"], expected)


def test_a_damaged_tensor_is_noticed_when_it_is_read(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_tiny_checkpoint(tmp_path, "PanguEmbedded", dtype="bfloat16")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][3, 5] = float("nan")
    tensors["model.embed_tokens.weight"][45, 7] = float("inf")
    save_file(tensors, folder / "model.safetensors")
    pangu = load(folder, bits=16, device="cpu", memory=least_bytes(folder, 16))
    with pytest.raises(CheckpointError, match=r"layers\.2\.mlp\.up_proj\.weight .* NaN"):
        pangu.trace([1, 7])
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight .* NaN or infinity"):
        pangu.trace([1, 45])


@pytest.mark.parametrize("way", ["written over", "replaced", "shortened"])
def test_a_file_that_changed_since_it_was_opened_is_refused(way, tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "model", "PanguEmbedded", dtype="bfloat16")
    other = make_tiny_checkpoint(tmp_path / "other", "PanguEmbedded", dtype="bfloat16", seed=1)
    pangu = load(folder, bits=16, device="cpu", memory=least_bytes(folder, 16))
    pangu.trace(IDS)
    file, times = folder / "model.safetensors", (folder / "model.safetensors").stat()
    if way == "written over":  # of the same size, in the same file
        shutil.copyfile(other / "model.safetensors", file)
    elif way == "replaced":  # of the same size
        os.replace(other / "model.safetensors", file)
    else:
        os.truncate(file, times.st_size // 2)
    with pytest.raises(CheckpointError, match=r"after it was opened.* load the checkpoint"):
        pangu.trace(IDS)  # weights
    with pytest.raises(CheckpointError, match="changed after it was opened"):
        pangu.model.get_input_embeddings()(torch.tensor([IDS]))  # single rows


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    file = make_tiny_checkpoint(tmp_path) / "model.safetensors"
    info, read_into = read_header(file)["model.norm.weight"], reading._read_into

    def beside_a_writer(*arguments):
        read_into(*arguments)
        os.utime(file, ns=(1, 1))

    monkeypatch.setattr(reading, "_read_into", beside_a_writer)
    with pytest.raises(CheckpointError, match="changed after it was opened"):
        reading.read_tensor("model.norm.weight", info)


def test_two_threads_run_one_after_the_other(stored):
    folder = stored("moe", 4)
    pangu = load(folder, device="cpu", memory=least_bytes(folder, 4))
    expected = pangu.trace(IDS)
    found = []
    threads = [threading.Thread(target=lambda: found.append(pangu.trace(IDS))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3
    for trace in found:
        np.testing.assert_array_equal(trace.router_logits, expected.router_logits)


def test_the_playground_generates_from_disk_and_tells_of_every_layer(stored, monkeypatch):
    folder = stored("moe", 4)
    pangu = load(folder, device="cpu", memory=least_bytes(folder, 4))
    told = []
    monkeypatch.setattr("workbench.views.shared.news.PAUSE", 0)
    monkeypatch.setattr(Playground, "send", lambda self, message, *_: told.append(message))
    view = Playground(pangu, prompt="To be", history=None, max_new_tokens=4)
    view.start()
    steps = len(view.wait(60).steps)
    assert steps > 1
    assert pangu.streaming.hit_rate is not None
    doing = [message["status"].get("doing", "") for message in told if "status" in message]
    layers = pangu.config.num_hidden_layers
    for layer in range(1, layers + 1):  # of the prompt, and of every token but the last
        heard = [text for text in doing if text.startswith(f"layer {layer} of {layers}, from disk")]
        assert len(heard) == steps
    assert any("found in memory" in text for text in doing)
    assert pangu.streaming.on_layer is None
    assert "doing" not in told[-1]["status"]


@pytest.mark.parametrize("kind", [RoutingView, AttentionView, ComparisonView, PromptMatrixView])
def test_live_views_tell_of_every_layer_from_disk(kind, stored, monkeypatch):
    folder = stored("moe", 4)
    pangu = load(folder, device="cpu", memory=least_bytes(folder, 4))
    told, layers = [], pangu.config.num_hidden_layers
    monkeypatch.setattr("workbench.views.shared.news.PAUSE", 0)
    hear = traitlets.observe("doing")(lambda _, change: told.append(change["new"]))
    heard = type("Heard", (kind,), {"hear": hear})
    if kind is ComparisonView:
        view = heard(pangu, "To be", {"one": {}, "two": {}}, max_new_tokens=3)
        view.start()
    elif kind is PromptMatrixView:
        view = heard(PromptMatrix("To {{x}}", {"x": ["be"]}, models=pangu, max_new_tokens=3))
        view.start()
    else:
        view = heard.live(pangu, "To be", max_new_tokens=3)
    view.wait(60)
    for layer in range(1, layers + 1):
        assert any(text.startswith(f"layer {layer} of {layers}, from disk (") for text in told)
    assert (told[-1], view.doing, pangu.streaming.on_layer) == ("", "", None)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_streamed_model_refuses_to_give_its_weights_away(bits, stored, tmp_path):
    folder = stored("moe", bits)
    pangu = load(folder, bits=bits, device="cpu", memory=least_bytes(folder, bits))
    pangu.trace(IDS)
    for module in (pangu.model, pangu.model.model, pangu.model.model.layers[1].self_attn.q_proj):
        with pytest.raises(QuantizationError, match=r"are on disk.* pangu\.save\(folder\)"):
            module.state_dict()
    with pytest.raises(QuantizationError, match=r"pangu\.save\(folder\)"):
        pangu.model.save_pretrained(tmp_path / "out")
