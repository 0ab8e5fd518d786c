"""Conversion on disk: conversion refused."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.tiny import make_tiny_checkpoint
from tests.loading.conversions import contents, stopped
from workbench import load, open_checkpoint
from workbench.checkpoints import reading
from workbench.checkpoints.checkpoint import JOURNAL
from workbench.errors import CheckpointError, QuantizationError
from workbench.loading import conversion
from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import Filler


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
    with pytest.raises(CheckpointError, match="changed while it was being read"):
        quantize_checkpoint(moe_source, tmp_path / "out", 4, shard_bytes=300_000)
    with pytest.raises(
        QuantizationError,
        match="with other settings: its source was different, or has changed since",
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
    with pytest.raises(
        CheckpointError, match=r"changed while it was being read .*; remove .*out and"
    ):
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
    with pytest.raises(CheckpointError, match=f"{name} changed after it was opened"):
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
    with pytest.raises(CheckpointError, match="changed after it was opened"):
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
    with pytest.raises(QuantizationError, match="different, or has changed since"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    (moe_source / name).write_bytes(original)
    save = conversion.PanguTokenizer.save_pretrained

    def at_the_last_moment(self, directory):
        (moe_source / name).write_bytes(changed)
        save(self, directory)

    monkeypatch.setattr(conversion.PanguTokenizer, "save_pretrained", at_the_last_moment)
    with pytest.raises(CheckpointError, match="changed while it was being read"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)
    assert not (folder / "config.json").exists()


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


@pytest.mark.parametrize("name", ["movie.part", "tokenizer_config.json", "unfinished_files_mine"])
def test_what_is_not_of_the_conversion_is_neither_removed_nor_overwritten(
    name, moe_source, tmp_path, monkeypatch
):
    folder = stopped(moe_source, tmp_path / "out", monkeypatch)
    (folder / name).mkdir() if name == "unfinished_files_mine" else (folder / name).touch()
    before = sorted(folder.iterdir())
    with pytest.raises(QuantizationError, match=rf"did not write \({name}\).*Move them elsewhere"):
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
    with pytest.raises(QuantizationError, match=rf"{JOURNAL} is damaged .* Remove .*start again"):
        quantize_checkpoint(moe_source, folder, 4, shard_bytes=300_000)


def test_a_quantized_source_is_not_quantized_to_other_bits(moe_source, tmp_path):
    folder = quantize_checkpoint(moe_source, tmp_path / "int8", 8)
    with pytest.raises(QuantizationError, match="already quantized to int8"):
        quantize_checkpoint(folder, tmp_path / "nf4", 4)
