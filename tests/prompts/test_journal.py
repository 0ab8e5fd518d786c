"""Append-only files: several writers, crashes, damage, and what JSON cannot hold."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import HistoryError
from workbench.prompts.journal import Journal

ROOT = Path(__file__).parents[2]


def test_what_was_appended_is_read_again_in_another_session(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).append({"text": "床前 <b>\n\u2028\x00", "numbers": np.array([1, 2])})
    Journal(path).append({"value": np.float32(0.5), "least": -np.inf, "unknown": float("nan")})
    assert Journal(path).read() == [
        {"text": "床前 <b>\n\u2028\x00", "numbers": [1, 2]},
        {"value": 0.5, "least": None, "unknown": None},
    ]
    assert "床前" in path.read_text(encoding="utf-8")  # readable by people


def test_half_a_surrogate_pair_survives_the_file(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).append({"text": "a\udc80b\ud83d"})
    assert Journal(path).read() == [{"text": "a\udc80b\ud83d"}]
    path.read_bytes().decode("utf-8")


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_line_cut_short_by_a_crash_is_told_and_loses_nothing_else(tmp_path, cut):
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append({"place": 0})
    journal.append({"place": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    journal = Journal(path)
    if cut == 1:  # only the end of the line is missing
        assert journal.read() == [{"place": 0}, {"place": 1}]
    else:
        with pytest.warns(UserWarning, match="line 2 is damaged"):
            assert journal.read() == [{"place": 0}]
        assert [line.number for line in journal.damaged] == [2]
    journal.append({"place": 2})
    assert journal.read()[-1] == {"place": 2}  # without another warning
    assert path.read_bytes().startswith(whole[:-cut] + b"\n")
    assert len(journal.damaged) == (cut != 1)


def test_damage_in_the_middle_is_named_by_its_line(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"a": 1}\n[1]\n\n{"b": 2}\n\xff\xfe\n{"c": 3}\n')
    journal = Journal(path)
    with pytest.warns(UserWarning, match="line 2, 5 is damaged"):
        assert journal.read() == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert [line.number for line in journal.damaged] == [2, 5]


def test_only_what_is_new_is_read_and_a_replaced_file_is_noticed(tmp_path):
    path = tmp_path / "j.jsonl"
    first, second = Journal(path), Journal(path)
    assert first.read() == []
    second.append({"place": 0})
    assert first.read() == [{"place": 0}]
    second.append({"place": 1})
    assert first.read() == [{"place": 0}, {"place": 1}]
    path.write_text('{"other": 1}\n')
    assert first.read() == [{"other": 1}]
    path.unlink()
    assert first.read() == []


def test_processes_that_write_at_the_same_time_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "j.jsonl"
    code = (
        "import sys; from workbench.prompts.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "for place in range(40):\n"
        "    journal.append({'who': sys.argv[2], 'place': place, 'text': sys.argv[2] * 9000})\n"
        "    journal.read()\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    writers = [subprocess.Popen([*command, who], cwd=ROOT) for who in "abc"]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(record["text"] == record["who"] * 9000 for record in records)
    for who in "abc":
        assert [r["place"] for r in records if r["who"] == who] == list(range(40))


def test_a_place_that_cannot_hold_a_file_is_refused(tmp_path):
    with pytest.raises(HistoryError, match="is a folder"):
        Journal(tmp_path)
    with pytest.raises(HistoryError, match="there is no folder"):
        Journal(tmp_path / "missing" / "j.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told():
    with pytest.raises(HistoryError, match=r"No space left.*free some space"):
        Journal("/dev/full").append({"a": 1})
