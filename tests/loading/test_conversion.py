"""Conversion on disk: the same weights as on load, and nothing lost or half done by an interruption."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load, open_checkpoint
from workbench.checkpoints import reading
from workbench.checkpoints.checkpoint import JOURNAL
from workbench.checkpoints.shards import SINGLE
from workbench.cli import main
from workbench.errors import CheckpointError, QuantizationError
from workbench.loading import conversion, conversion_journal, conversion_shards
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import Filler, load_model
from workbench.loading.plan import make_plan

IDS = [1, 45, 99, 7, 300, 45, 211]


@pytest.fixture(scope="module", params=["PanguProMoE", "PanguEmbedded"])
def source(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / request.param
    return make_tiny_checkpoint(folder, request.param, dtype="bfloat16", shards=2)


@pytest.fixture
def moe_source(tmp_path) -> Path:
    return make_tiny_checkpoint(tmp_path / "moe-source", dtype="bfloat16", shards=2)


def logits_of(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits[0].float()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def stopped(
    source: Path, folder: Path, monkeypatch, modules: int = 70, shard_bytes: int = 300_000
) -> Path:
    """A conversion to 4 bit that was interrupted after so many modules."""
    fill, filled = Filler.fill, []

    def interrupted(self, module):
        if len(filled) == modules:
            raise KeyboardInterrupt
        filled.append(module)
        fill(self, module)

    with monkeypatch.context() as patched:
        patched.setattr(Filler, "fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quantize_checkpoint(source, folder, 4, shard_bytes=shard_bytes)
    return folder


def modules_filled(monkeypatch, convert) -> int:
    """How many modules a conversion reads."""
    fill, filled = Filler.fill, []

    def counted(self, module):
        filled.append(module)
        fill(self, module)

    with monkeypatch.context() as patched:
        patched.setattr(Filler, "fill", counted)
        convert()
    return len(filled)


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


@pytest.mark.parametrize("shard_bytes", [300_000, 2_000_000_000])
def test_an_interrupted_conversion_goes_on_behind_its_last_module(
    shard_bytes, moe_source, tmp_path, monkeypatch
):
    whole, folder = tmp_path / "whole", tmp_path / "out"

    def convert(to: Path = folder) -> None:
        quantize_checkpoint(moe_source, to, 4, shard_bytes=shard_bytes)

    modules = modules_filled(monkeypatch, lambda: convert(whole))
    stopped(moe_source, folder, monkeypatch, 70, shard_bytes)
    stopped(moe_source, folder, monkeypatch, 3, shard_bytes)
    finished = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.safetensors")}
    assert len(finished) == (2 if shard_bytes == 300_000 else 0)
    with pytest.raises(CheckpointError, match="conversion that was not finished"):
        open_checkpoint(folder)
    assert modules_filled(monkeypatch, convert) == modules - 73
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == finished
    assert contents(folder) == contents(whole)


def test_the_bar_of_a_conversion_that_goes_on_counts_only_what_is_left(
    moe_source, tmp_path, monkeypatch
):
    folder = stopped(moe_source, tmp_path / "out", monkeypatch)
    bars = []

    class Bar(conversion.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            bars.append(self)
            self.steps = []

        def update(self, n=1):
            self.steps.append(n)
            return super().update(n)

    monkeypatch.setattr(conversion, "tqdm", Bar)
    filled = modules_filled(
        monkeypatch, lambda: quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    )
    [bar] = bars
    assert len(bar.steps) == filled  # each is a module, none a file that was finished
    assert 0 < bar.initial == bar.total - sum(bar.steps)
    assert bar.n == bar.total == open_checkpoint(moe_source).nbytes


KILLED = """
import sys
from workbench.loading import conversion, conversion_shards
conversion_shards.NOTE_SECONDS = 0.05
print("ready", flush=True)
source, folder, shard_bytes = sys.argv[1:]
conversion.quantize_checkpoint(source, folder, 8, shard_bytes=int(shard_bytes))
"""


@pytest.mark.parametrize("shard_bytes", [200_000, 2_000_000_000])
def test_a_conversion_that_is_killed_again_and_again_ends_as_one_that_was_not(
    shard_bytes, moe_source, tmp_path, monkeypatch
):
    whole, folder, chance = tmp_path / "whole", tmp_path / "out", random.Random(0)

    def convert(to: Path = folder) -> None:
        quantize_checkpoint(moe_source, to, 8, shard_bytes=shard_bytes)

    def noted() -> bytes:
        with suppress(FileNotFoundError):
            return (folder / conversion_journal.NOTE).read_bytes()
        return b""

    modules = modules_filled(monkeypatch, lambda: convert(whole))
    killed = 0
    for _ in range(3):
        before = noted(), len(list(folder.glob("model*.safetensors")))
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, moe_source, folder, str(shard_bytes)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        process.stdout.readline()
        deadline = time.monotonic() + 120
        while process.poll() is None and before == (
            noted(),
            len(list(folder.glob("model*.safetensors"))),
        ):
            assert time.monotonic() < deadline
            time.sleep(chance.uniform(0.001, 0.01))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        if not (folder / "config.json").exists():
            with pytest.raises(CheckpointError, match="was not finished"):
                open_checkpoint(folder)
    assert killed
    if not (folder / "config.json").exists():
        assert modules_filled(monkeypatch, convert) < modules
    assert contents(folder) == contents(whole)


def test_a_file_whose_note_does_not_fit_begins_anew(moe_source, tmp_path, monkeypatch):
    whole = quantize_checkpoint(moe_source, tmp_path / "whole", 4)
    part = f"{SINGLE}.part"
    for change in (
        lambda folder: (folder / conversion_journal.NOTE).unlink(),
        lambda folder: (folder / conversion_journal.NOTE).write_text('{"file": "model'),
        lambda folder: (folder / conversion_journal.NOTE).write_text("[]"),
        lambda folder: (folder / part).unlink(),
        lambda folder: os.truncate(folder / part, (folder / part).stat().st_size - 1),
    ):
        folder = stopped(moe_source, tmp_path / "out", monkeypatch, 70, 2_000_000_000)
        change(folder)
        quantize_checkpoint(moe_source, folder, 4)
        assert contents(folder) == contents(whole)
        shutil.rmtree(folder)


def test_files_of_another_size_do_not_go_on_with_an_unfinished_conversion(
    moe_source, tmp_path, monkeypatch
):
    folder = stopped(moe_source, tmp_path / "out", monkeypatch)
    count = re.search(r"of-(\d+)", min(folder.glob("model-*")).name)[1]
    with pytest.raises(QuantizationError, match="its files had another size"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=310_000)
    other = quantize_checkpoint(moe_source, tmp_path / "other", 4, shard_bytes=310_000)
    assert (other / f"model-{count}-of-{count}.safetensors").exists()  # as many, divided otherwise


@pytest.mark.parametrize("damage", ["removed", "cut short", "longer", "another header"])
def test_a_finished_file_without_its_header_or_its_size_is_written_again(
    damage, moe_source, tmp_path, monkeypatch
):
    whole = quantize_checkpoint(moe_source, tmp_path / "whole", 4, shard_bytes=300_000)
    folder = stopped(moe_source, tmp_path / "out", monkeypatch)
    first, second = sorted(folder.glob("model-*.safetensors"))
    content = first.read_bytes()
    changed = {
        "removed": None,
        "cut short": content[:-100],
        "longer": content + b"0",
        "another header": second.read_bytes(),
    }[damage]
    first.unlink() if changed is None else first.write_bytes(changed)
    quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert contents(folder) == contents(whole)


def test_a_second_run_into_the_same_folder_is_refused_and_spoils_nothing(
    moe_source, tmp_path, monkeypatch
):
    whole = quantize_checkpoint(moe_source, tmp_path / "whole", 4, shard_bytes=300_000)
    fill, filled, folder = Filler.fill, [], tmp_path / "out"

    def beside_another(self, module):
        filled.append(module)
        if len(filled) == 20:  # within the first shard
            with pytest.raises(QuantizationError, match="another run is writing to"):
                quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
        fill(self, module)

    monkeypatch.setattr(Filler, "fill", beside_another)
    quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert len(filled) > 20
    assert contents(folder) == contents(whole)
    with pytest.raises(QuantizationError, match="holds a whole checkpoint already"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert contents(folder) == contents(whole)  # not even a lock is left


def test_a_source_that_changes_in_between_is_noticed(moe_source, tmp_path, monkeypatch):
    fill, filled = Filler.fill, []
    file = moe_source / "model-00002-of-00002.safetensors"

    def changing(self, module):
        filled.append(module)
        if len(filled) == 40:
            os.utime(file, ns=(1, 1))
        fill(self, module)

    monkeypatch.setattr(Filler, "fill", changing)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        quantize_checkpoint(moe_source, tmp_path / "out", 4, shard_bytes=300_000)
    with pytest.raises(
        QuantizationError, match="of another kind: its source was another one, or has changed since"
    ):
        quantize_checkpoint(moe_source, tmp_path / "out", 4, shard_bytes=300_000)


def test_a_source_that_is_cut_in_between_is_told_as_changed(moe_source, tmp_path, monkeypatch):
    fill, filled = Filler.fill, []

    def cutting(self, module):
        filled.append(module)
        if len(filled) == 10:
            os.truncate(moe_source / "model-00002-of-00002.safetensors", 5000)
        fill(self, module)

    monkeypatch.setattr(Filler, "fill", cutting)
    with pytest.raises(CheckpointError, match=r"changed while it was read .*; remove .*out and"):
        quantize_checkpoint(moe_source, tmp_path / "out", 4)


def test_a_source_that_cannot_be_read_is_not_taken_for_a_full_disk(
    moe_source, tmp_path, monkeypatch
):
    read, count = reading._read_into, []

    def broken(*arguments):
        count.append(1)
        if len(count) > 20:
            raise OSError(errno.EIO, "Input/output error")
        read(*arguments)

    monkeypatch.setattr(reading, "_read_into", broken)
    with pytest.raises(CheckpointError, match=r"safetensors of the source could not be read"):
        quantize_checkpoint(moe_source, tmp_path / "out", 4)
    monkeypatch.setattr(reading, "_read_into", read)
    assert load(quantize_checkpoint(moe_source, tmp_path / "out", 4), device="cpu").bits == 4


@pytest.mark.parametrize("shard", [1, 2])
def test_a_loaded_model_is_not_saved_from_a_source_that_changed(shard, moe_source, tmp_path):
    other = make_tiny_checkpoint(tmp_path / "other", dtype="bfloat16", shards=2, seed=1)
    pangu = load(moe_source, bits=4, device="cpu")
    name = f"model-{shard:05}-of-00002.safetensors"
    shutil.copyfile(other / name, moe_source / name)
    with pytest.raises(CheckpointError, match=f"{name} changed since it was opened"):
        pangu.save(tmp_path / "out")
    with pytest.raises(CheckpointError, match="was not finished"):
        open_checkpoint(tmp_path / "out")
    load(moe_source, bits=4, device="cpu").save(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(
        quantize_checkpoint(moe_source, tmp_path / "new", 4)
    )


def test_a_source_that_changes_before_its_first_weight_is_read_is_noticed(
    moe_source, tmp_path, monkeypatch
):
    other = make_tiny_checkpoint(tmp_path / "other", dtype="bfloat16", shards=2, seed=1)
    fingerprint = conversion.source_fingerprint

    def after_a_change(checkpoint):
        for file in other.glob("*.safetensors"):
            shutil.copyfile(file, moe_source / file.name)
        monkeypatch.setattr(conversion, "source_fingerprint", fingerprint)
        return fingerprint(checkpoint)

    monkeypatch.setattr(conversion, "source_fingerprint", after_a_change)
    with pytest.raises(CheckpointError, match="changed since it was opened"):
        quantize_checkpoint(moe_source, tmp_path / "out", 4, shard_bytes=300_000)


@pytest.mark.parametrize(
    "name", ["tokenizer.model", "tokenizer_config.json", "generation_config.json", "config.json"]
)
def test_a_change_of_tokenizer_or_settings_is_noticed(name, moe_source, tmp_path, monkeypatch):
    (moe_source / "generation_config.json").write_text('{"temperature": 0.7}')
    folder = stopped(moe_source, tmp_path / "out", monkeypatch)
    original = (moe_source / name).read_bytes()
    changed = original + (b"\xa0\x06\x01" if name == "tokenizer.model" else b"\n")  # a new field
    (moe_source / name).write_bytes(changed)
    with pytest.raises(QuantizationError, match="another one, or has changed since"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    (moe_source / name).write_bytes(original)
    save = conversion.PanguTokenizer.save_pretrained

    def at_the_last_moment(self, directory):
        (moe_source / name).write_bytes(changed)
        save(self, directory)

    monkeypatch.setattr(conversion.PanguTokenizer, "save_pretrained", at_the_last_moment)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert not (folder / "config.json").exists()


def test_other_settings_do_not_go_on_with_an_unfinished_conversion(
    moe_source, tmp_path, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Filler, "fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize_checkpoint(moe_source, tmp_path / "out", 4)
    with pytest.raises(QuantizationError, match=r"of another kind: bits was 4 and is 8\. Run"):
        quantize_checkpoint(moe_source, tmp_path / "out", 8)


def test_nothing_is_overwritten(moe_source, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("precious")
    for target in (full, full / "thesis.txt"):
        with pytest.raises(QuantizationError, match="new or empty"):
            quantize_checkpoint(moe_source, target, 4)
    assert contents(full) == {"thesis.txt": b"precious"}
    with pytest.raises(QuantizationError, match="source checkpoint"):
        quantize_checkpoint(moe_source, moe_source, 4)


def test_what_a_system_leaves_in_a_folder_is_in_nobody_s_way(moe_source, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").write_text("Finder")
    folder = stopped(moe_source, tmp_path / "out", monkeypatch)
    quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert (folder / ".DS_Store").read_text() == "Finder"
    assert load(folder, device="cpu").bits == 4


def test_a_full_disk_keeps_what_is_finished(moe_source, tmp_path, monkeypatch):
    write, written = conversion_shards._write_all, []

    def full(file, data):
        if len(written) == 150:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(data.nbytes)
        write(file, data)

    monkeypatch.setattr(conversion_shards, "_write_all", full)
    folder = tmp_path / "out"
    with pytest.raises(QuantizationError, match=r"No space left.*free some space"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert list(folder.glob("*.safetensors"))
    monkeypatch.setattr(conversion_shards, "_write_all", write)
    quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert load(folder, device="cpu").bits == 4


@pytest.mark.parametrize("name", ["out", "not/there/yet", "empty"])
def test_a_disk_without_room_is_noticed_before_anything_is_read_or_written(
    name, moe_source, tmp_path, monkeypatch
):
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(Filler, "fill", None)
    for bits in (4, 8):  # the second is not refused as another conversion than the first
        with pytest.raises(QuantizationError, match=r"disk has 1\.00 KB free"):
            quantize_checkpoint(moe_source, tmp_path / name, bits)
        assert sorted(tmp_path.iterdir()) == before
        assert not any((tmp_path / "empty").iterdir())


def test_a_journal_that_cannot_be_written_leaves_nothing(moe_source, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(QuantizationError, match=r"No space left.*free some space"):
        quantize_checkpoint(moe_source, tmp_path / "out", 4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_room_that_is_asked_for_is_what_the_files_take(bits, moe_source, tmp_path, monkeypatch):
    asked = []
    usage = shutil.disk_usage(tmp_path)

    def told(folder):
        asked.append(folder)
        return usage._replace(free=limit)

    monkeypatch.setattr(conversion.shutil, "disk_usage", told)
    out, limit = tmp_path / "out", usage.free
    quantize_checkpoint(moe_source, out, bits)
    taken = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    slack = 2100 * len(open_checkpoint(out).tensors) / 6 if bits == 4 else 0  # its tables, at most
    limit = int(taken + slack)
    quantize_checkpoint(moe_source, tmp_path / "again", bits)
    limit = taken - 5000 - int(slack)
    with pytest.raises(QuantizationError, match="more and the disk has"):
        quantize_checkpoint(moe_source, tmp_path / "without", bits)
    assert len(asked) == 3


def test_what_a_killed_run_left_half_written_is_removed_first(moe_source, tmp_path, monkeypatch):
    whole = quantize_checkpoint(moe_source, tmp_path / "whole", 4, shard_bytes=300_000)
    folder = stopped(moe_source, tmp_path / "out", monkeypatch)
    (folder / "model-00005-of-00006.safetensors.part").write_bytes(b"0" * 200_000)
    (folder / (JOURNAL + ".part")).write_text("{")
    quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert contents(folder) == contents(whole)


def test_a_whole_file_that_a_kill_left_without_its_name_is_not_written_again(
    moe_source, tmp_path, monkeypatch
):
    whole = quantize_checkpoint(moe_source, tmp_path / "whole", 4)
    folder, move = tmp_path / "out", os.replace

    def killed(source, target):
        if source.suffixes[-2:] == [".safetensors", ".part"]:
            raise KeyboardInterrupt
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            quantize_checkpoint(moe_source, folder, 4)
    again = modules_filled(monkeypatch, lambda: quantize_checkpoint(moe_source, folder, 4))
    assert again == 0
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("step", range(5))
def test_a_kill_among_the_last_files_is_mended(step, moe_source, tmp_path, monkeypatch):
    whole = quantize_checkpoint(moe_source, tmp_path / "whole", 4, shard_bytes=300_000)
    folder, move, moved = tmp_path / "out", os.replace, []

    def killed(source, target):
        if not source.name.endswith(".part"):
            if len(moved) == step:
                raise KeyboardInterrupt
            moved.append(target.name)
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert moved == [name for name in moved if (folder / name).exists()]
    assert "config.json" not in moved
    quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("name", ["movie.part", "tokenizer_config.json", "unfinished_files_mine"])
def test_what_is_not_of_the_conversion_is_neither_removed_nor_overwritten(
    name, moe_source, tmp_path, monkeypatch
):
    folder = stopped(moe_source, tmp_path / "out", monkeypatch)
    (folder / name).mkdir() if name == "unfinished_files_mine" else (folder / name).touch()
    before = sorted(folder.iterdir())
    with pytest.raises(QuantizationError, match=rf"did not write \({name}\).*Move it to another"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert sorted(folder.iterdir()) == before
    (folder / name).rename(tmp_path / name)
    quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert load(folder, device="cpu").bits == 4


def test_a_file_that_is_put_there_meanwhile_is_not_overwritten(moe_source, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    save = conversion.PanguTokenizer.save_pretrained

    def meanwhile(self, directory):
        (folder / "tokenizer_config.json").write_text("precious")
        save(self, directory)

    with monkeypatch.context() as patched:
        patched.setattr(conversion.PanguTokenizer, "save_pretrained", meanwhile)
        with pytest.raises(QuantizationError, match=r"did not write \(tokenizer_config\.json\)"):
            quantize_checkpoint(moe_source, folder, 4)
    assert (folder / "tokenizer_config.json").read_text() == "precious"


def test_a_kill_before_the_journal_was_written_locks_nobody_out(moe_source, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / conversion_journal.LOCK).touch()
    (folder / (JOURNAL + ".part")).write_text("{")
    quantize_checkpoint(moe_source, folder, 4)
    assert open_checkpoint(folder).stored == "nf4"
    assert not {conversion_journal.LOCK, JOURNAL + ".part"} & contents(folder).keys()


def test_a_source_that_vanishes_is_named(moe_source, tmp_path, monkeypatch):
    fill, filled = Filler.fill, []
    file = moe_source / "model-00002-of-00002.safetensors"

    def vanishing(self, module):
        filled.append(module)
        if len(filled) == 40:
            file.rename(tmp_path / "elsewhere")
        fill(self, module)

    monkeypatch.setattr(Filler, "fill", vanishing)
    with pytest.raises(CheckpointError, match=f"{file.name} of the source could not be read"):
        quantize_checkpoint(moe_source, tmp_path / "out", 4, shard_bytes=300_000)


@pytest.mark.parametrize("below", ["sub", "sub/sub"])
def test_a_destination_below_a_file_of_the_source_is_named_as_the_destination(below, moe_source):
    folder = moe_source / "config.json" / below
    with pytest.raises(QuantizationError, match=f"{folder} could not be written"):
        quantize_checkpoint(moe_source, folder, 4)


def test_a_destination_within_a_source_that_nobody_may_write_to_is_named(moe_source, monkeypatch):
    folder, make = moe_source / "sub" / "out", os.mkdir

    def refused(path, *mode):
        if Path(path) == folder.parent:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        make(path, *mode)

    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(QuantizationError, match=f"{folder} could not be written"):
        quantize_checkpoint(moe_source, folder, 4)


@pytest.mark.parametrize("text", ["", "[]", '{"job": 5}', '{"job": {}, "finished": {"a": 1}}'])
def test_a_damaged_journal_is_named(text, moe_source, tmp_path, monkeypatch):
    folder = stopped(moe_source, tmp_path / "out", monkeypatch, modules=1)
    (folder / JOURNAL).write_text(text)
    with pytest.raises(QuantizationError, match=rf"{JOURNAL} is damaged .* Remove .*begin again"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)


def test_a_quantized_source_is_not_quantized_to_other_bits(moe_source, tmp_path):
    folder = quantize_checkpoint(moe_source, tmp_path / "int8", 8)
    with pytest.raises(QuantizationError, match="already quantized to int8"):
        quantize_checkpoint(folder, tmp_path / "nf4", 4)


def test_the_command_line_converts(moe_source, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["quantize", str(moe_source), str(out), "--bits", "4", "--shard-size", "400KB"]
    assert main(arguments) == 0
    assert f"written to {out}" in capsys.readouterr().out
    assert open_checkpoint(out).stored == "nf4"
    assert main(arguments) == 2
    assert "holds a whole checkpoint already" in capsys.readouterr().err
    assert main([*arguments[:3], "--bits", "4", "--shard-size", "much"]) == 2
    assert "is no size" in capsys.readouterr().err
