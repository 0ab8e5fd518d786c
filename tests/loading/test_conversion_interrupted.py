"""Conversion on disk: conversion interrupted."""

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

from tests.loading.conversions import contents, stopped
from workbench import load, open_checkpoint
from workbench.checkpoints.checkpoint import JOURNAL
from workbench.checkpoints.shards import SINGLE
from workbench.errors import CheckpointError, QuantizationError
from workbench.loading import conversion, conversion_journal, conversion_shards
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import Filler


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


KILLED = """
import sys
from workbench.loading import conversion, conversion_shards
conversion_shards.NOTE_SECONDS = 0.05
print("ready", flush=True)
source, folder, shard_bytes = sys.argv[1:]
conversion.quantize_checkpoint(source, folder, 8, shard_bytes=int(shard_bytes))
"""


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
    with pytest.raises(QuantizationError, match="its files had a different size"):
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


def test_other_settings_do_not_go_on_with_an_unfinished_conversion(
    moe_source, tmp_path, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Filler, "fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize_checkpoint(moe_source, tmp_path / "out", 4)
    with pytest.raises(QuantizationError, match=r"with other settings: bits was 4 and is 8\. Run"):
        quantize_checkpoint(moe_source, tmp_path / "out", 8)


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


def test_a_kill_before_the_journal_was_written_locks_nobody_out(moe_source, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / conversion_journal.LOCK).touch()
    (folder / (JOURNAL + ".part")).write_text("{")
    quantize_checkpoint(moe_source, folder, 4)
    assert open_checkpoint(folder).stored == "nf4"
    assert not {conversion_journal.LOCK, JOURNAL + ".part"} & contents(folder).keys()
