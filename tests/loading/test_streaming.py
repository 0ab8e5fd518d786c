"""A model that is read from disk as it runs does what it does in memory, within its budget."""

import filecmp
import os
import shutil
import threading
from collections import Counter

import numpy as np
import pytest
import torch
import traitlets

import workbench.loading.devices as devices
from tests.helpers.tiny import make_tiny_checkpoint
from workbench import Playground, PromptMatrix, Sampling, load
from workbench.checkpoints import reading
from workbench.checkpoints.shards import read_header
from workbench.cli import main
from workbench.errors import CheckpointError, QuantizationError
from workbench.loading import filling as loading
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import Filler
from workbench.loading.sizes import size_in_bytes, size_to_ask_for
from workbench.loading.units import needed_bytes
from workbench.traces.trace import Trace
from workbench.views import AttentionView, ComparisonView, PromptMatrixView, RoutingView

IDS = [1, 45, 99, 7, 300, 45, 211]
GREEDY = Sampling(temperature=0)
ARCHITECTURES = {"moe": "PanguProMoE", "dense": "PanguEmbedded"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Path of a small checkpoint of an architecture, stored in so many bits."""
    made = {}

    def of(which, bits, **overrides):
        key = (which, bits, *overrides.items())
        if key not in made:
            folder = tmp_path_factory.mktemp("stored")
            source = make_tiny_checkpoint(
                folder / "16", ARCHITECTURES[which], dtype="bfloat16", **overrides
            )
            made[key] = source if bits == 16 else quantize_checkpoint(source, folder / "q", bits)
        return made[key]

    return of


def least_bytes(folder, bits) -> int:
    """What the error names as the smallest workable budget."""
    with pytest.raises(QuantizationError, match="the least is") as caught:
        load(folder, bits=bits, device="cpu", memory="1KB")
    return size_in_bytes(str(caught.value).partition("the least is ")[2].partition(",")[0])


def filled_bytes(model) -> int:
    """Bytes of everything that the modules hold, counted on the tensors themselves."""
    storages = {}

    def add(tensor):
        if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()

    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            add(parameter.data)
            state = getattr(parameter, "quant_state", None)
            for holder in (state, getattr(state, "state2", None)):
                for value in vars(holder).values() if holder is not None else ():
                    add(value)
            for name in ("CB", "SCB"):
                add(getattr(parameter, name, None))
                add(getattr(getattr(module, "state", None), name, None))
    return sum(storages.values())


def filled_modules(model) -> int:
    return sum(
        any(p.device.type != "meta" and p.numel() for p in module.parameters(recurse=False))
        for module in model.modules()
    )


@pytest.fixture
def fills(monkeypatch):
    """Names of modules in the order in which they are filled."""
    log, fill = [], Filler.fill

    def logged(self, module_name):
        fill(self, module_name)
        log.append(module_name)

    monkeypatch.setattr(Filler, "fill", logged)
    return log


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


@pytest.mark.parametrize(("which", "bits"), [("moe", 4), ("dense", 8)])
def test_the_smallest_budget_is_known_beforehand_and_a_smaller_one_refused(which, bits, stored):
    folder = stored(which, bits)
    least = least_bytes(folder, bits)
    exact = needed_bytes(load(folder, device="cpu", memory=least).streaming.units, ())
    assert exact <= least <= exact * 1.01 + 10_000
    load(folder, device="cpu", memory=exact).trace(IDS)
    with pytest.raises(QuantizationError, match='Pass memory="'):
        load(folder, device="cpu", memory=exact - 1)


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
    with pytest.raises(CheckpointError, match=r"since it was opened.* load the checkpoint"):
        pangu.trace(IDS)  # weights
    with pytest.raises(CheckpointError, match="changed since it was opened"):
        pangu.model.get_input_embeddings()(torch.tensor([IDS]))  # single rows


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    file = make_tiny_checkpoint(tmp_path) / "model.safetensors"
    info, read_into = read_header(file)["model.norm.weight"], reading._read_into

    def beside_a_writer(*arguments):
        read_into(*arguments)
        os.utime(file, ns=(1, 1))

    monkeypatch.setattr(reading, "_read_into", beside_a_writer)
    with pytest.raises(CheckpointError, match="changed since it was opened"):
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
    monkeypatch.setattr("workbench.views.shared.generating.PAUSE", 0)
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
    monkeypatch.setattr("workbench.views.shared.generating.PAUSE", 0)
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
    assert "stay on disk" in str(pangu.plan)
    assert "stay on disk" in str(pangu.receipt)
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


def test_saving_a_streamed_model_writes_the_same_file(stored, tmp_path):
    folder = stored("moe", 4)
    load(folder, device="cpu").save(tmp_path / "whole")
    pangu = load(folder, device="cpu", memory=least_bytes(folder, 4))
    pangu.trace(IDS)
    pangu.save(tmp_path / "streamed")
    for name in ("model.safetensors", "config.json"):
        assert filecmp.cmp(tmp_path / "whole" / name, tmp_path / "streamed" / name, shallow=False)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_streamed_model_refuses_to_give_its_weights_away(bits, stored, tmp_path):
    folder = stored("moe", bits)
    pangu = load(folder, bits=bits, device="cpu", memory=least_bytes(folder, bits))
    pangu.trace(IDS)
    for module in (pangu.model, pangu.model.model, pangu.model.model.layers[1].self_attn.q_proj):
        with pytest.raises(QuantizationError, match=r"stay on disk.* pangu\.save\(folder\)"):
            module.state_dict()
    with pytest.raises(QuantizationError, match=r"pangu\.save\(folder\)"):
        pangu.model.save_pretrained(tmp_path / "out")


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
    with pytest.raises(QuantizationError, match="is no size"):
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
    assert f"does not fit; the least is {size_to_ask_for(least)}." in told
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
    assert printed.count("stay on disk") == 2
    assert main(["inspect", folder, "--memory", "1KB", "--device", "cpu"]) == 2
    assert "the least is" in capsys.readouterr().err
