"""A model that is read from disk as it runs does what it does in memory, within its budget: streaming."""

import filecmp
from collections import Counter

import numpy as np
import pytest
import torch

from tests.loading.on_disk import IDS, filled_bytes, least_bytes
from workbench import Sampling, load

GREEDY = Sampling(temperature=0)


def test_a_prompt_reads_every_layer_once_and_only_the_experts_that_its_tokens_use(stored, fills):
    folder = stored("moe", 4)
    pangu = load(folder, device="cpu", memory=least_bytes(folder, 4))
    read_before = len(fills)
    trace = pangu.trace(IDS[:2])
    used = {
        f"model.layers.{layer}.mlp.experts.{expert}"
        for layer, experts in enumerate(trace.selected_experts)
        for expert in experts.ravel()
    }
    read = Counter(name.rpartition(".")[0] for name in fills[read_before:] if ".experts." in name)
    assert set(read) == used
    assert set(read.values()) == {3}  # gate, up and down
    assert len(used) < 36  # of 3 layers with 12 experts: not all
    assert max(Counter(fills[read_before:]).values()) == 1
    whole_layers = {name for name in pangu.streaming.filler.modules if ".experts." not in name}
    kept = {m for u in pangu.streaming.kept for m in pangu.streaming.units[u].modules}
    not_experts = {name for name in fills[read_before:] if ".experts." not in name}
    assert not_experts == whole_layers - kept - {"model.embed_tokens"}


def test_a_long_prompt_reads_the_head_once_although_its_logits_come_in_parts(stored, fills):
    folder = stored("dense", 16)
    pangu = load(folder, bits=16, device="cpu", memory=least_bytes(folder, 16))
    pangu.trace((IDS * 50)[:300])
    assert fills.count("lm_head") == 1


def test_the_hit_rate_is_the_share_of_chosen_experts_that_needed_no_reading(stored, fills):
    folder = stored("moe", 8)
    pangu = load(folder, device="cpu", memory=least_bytes(folder, 8) + 500_000)
    assert pangu.streaming.hit_rate is None
    pangu.trace(IDS)
    pangu.trace(IDS[:1])
    pangu.generate(IDS[:1], 1, GREEDY)  # its one token is drawn and not run
    assert pangu.streaming.hit_rate is None  # nothing that was generated has run
    steps = pangu.stream(IDS, 9, GREEDY)
    next(steps)  # the prompt has been read
    del fills[:]
    tokens = len(list(steps))
    read = sum(".experts." in name and name.endswith("up_proj") for name in fills)
    wanted = tokens * 3 * 4  # layers, experts a token
    assert pangu.streaming.hit_rate == pytest.approx(1 - read / wanted)
    assert 0 < pangu.streaming.hit_rate < 1
    assert f"{pangu.streaming.hit_rate:.0%} found in memory" in repr(pangu)


def test_in_a_dense_model_the_hit_rate_counts_layers(stored):
    folder = stored("dense", 16)
    units = load(folder, bits=16, device="cpu", memory=least_bytes(folder, 16)).streaming.units
    names = (
        "model.norm",
        "lm_head",
        "model.layers.0",
        "model.layers.1",
    )  # one layer's room is left
    pangu = load(folder, bits=16, device="cpu", memory=sum(units[name].nbytes for name in names))
    pangu.generate(IDS, 4, GREEDY)
    assert pangu.streaming.kept == ("model.norm", "lm_head", "model.layers.0")
    assert pangu.streaming.hit_rate == pytest.approx(1 / 3)


def test_tied_embeddings_are_read_with_the_head(stored, fills):
    folder = stored("dense", 16, tie_word_embeddings=True)
    expected = load(folder, bits=16, device="cpu").trace(IDS, max_new_tokens=3)
    least = least_bytes(folder, 16)
    for room in (0, 300_000):
        del fills[:]
        pangu = load(folder, bits=16, device="cpu", memory=least + room)
        trace = pangu.trace(IDS, max_new_tokens=3)
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(trace.arrays[name], array)
        assert (fills.count("model.embed_tokens") == 1) == bool(room)
        assert filled_bytes(pangu.model) <= least + room


def test_gradients_reach_the_embeddings_of_a_streamed_model(stored):
    folder = stored("dense", 16)
    whole = load(folder, bits=16, device="cpu")
    pangu = load(folder, bits=16, device="cpu", memory=least_bytes(folder, 16))
    pangu.trace(IDS)  # in inference mode
    found = []
    for model in (whole.model, pangu.model):
        embedded = model.model.embed_tokens(torch.tensor([IDS])).detach().requires_grad_()
        model(inputs_embeds=embedded).logits[0, -1, 3].backward()
        found.append(embedded.grad)
    assert torch.equal(*found)
    assert found[0].abs().sum() > 0


def test_saving_a_streamed_model_writes_the_same_file(stored, tmp_path):
    folder = stored("moe", 4)
    load(folder, device="cpu").save(tmp_path / "whole")
    pangu = load(folder, device="cpu", memory=least_bytes(folder, 4))
    pangu.trace(IDS)
    pangu.save(tmp_path / "streamed")
    for name in ("model.safetensors", "config.json"):
        assert filecmp.cmp(tmp_path / "whole" / name, tmp_path / "streamed" / name, shallow=False)
