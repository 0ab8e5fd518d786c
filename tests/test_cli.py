"""`python -m workbench`, as a user types it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.reference.pangu_numpy import run
from workbench.cli import main
from workbench.models import PanguTokenizer
from workbench.traces.trace import Trace


def test_inspect_prints_what_it_is_the_plan_and_the_receipt(tiny_moe, capsys):
    assert main(["inspect", str(tiny_moe), "--bits", "4"]) == 0
    printed = capsys.readouterr().out
    assert "Pangu Pro MoE (PanguProMoE)" in printed
    assert "12 experts in 4 groups" in printed
    assert "Plan for" in printed
    assert "in 4 bit on cpu" in printed
    assert "nf4" in printed


def test_plan_only_reads_no_weight(tiny_moe, capsys, monkeypatch):
    monkeypatch.setattr("workbench.loading.filling.read_tensor", None)
    assert main(["inspect", str(tiny_moe), "--plan-only"]) == 0
    assert "Plan for" in capsys.readouterr().out


def test_trace_writes_a_file_that_equals_the_reference(tiny_moe, tmp_path, capsys):
    out = tmp_path / "text.trace"
    text = "To be, or not to be"
    arguments = ["trace", str(tiny_moe), "--prompt", text, "--bits", "16", "--out", str(out)]
    assert main(arguments) == 0
    trace = Trace.load(out)
    ids = PanguTokenizer(tiny_moe).encode(text)
    expected = run(tiny_moe, ids)
    assert trace.token_ids.tolist() == ids
    np.testing.assert_array_equal(trace.selected_experts, expected["selected_experts"])
    np.testing.assert_allclose(trace.attention(2, 5), expected["attention"][2, 5], atol=1e-3)
    assert str(out) in capsys.readouterr().out


def test_a_user_s_mistake_is_one_line_and_status_two(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("CheckpointError: ")
    assert "\n" not in message


def test_a_folder_that_is_not_there_is_noticed_before_loading(tiny_moe, tmp_path, capsys):
    out = tmp_path / "no" / "where.trace"
    assert main(["trace", str(tiny_moe), "--prompt", "x", "--out", str(out)]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "--help"], ["trace", "--help"]])
def test_help_explains(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "workbench", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert "checkpoint" in result.stdout.lower()


def test_a_place_where_nothing_can_be_written_is_noticed_before_loading(
    tiny_moe, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("workbench.pangu.load_model", None)
    for out in (tmp_path, tmp_path / ("x" * 300), Path("/proc/x.trace")):
        assert main(["trace", str(tiny_moe), "--prompt", "x", "--out", str(out)]) == 2
        message = capsys.readouterr().err.strip()
        assert message.startswith("TraceError: ")
        assert "\n" not in message


@pytest.mark.parametrize("count", ["-3", "2.5", "x"])
def test_an_impossible_count_is_noticed_before_loading(count, tiny_moe, tmp_path, capsys):
    arguments = ["trace", str(tiny_moe), "--prompt", "x", "--out", str(tmp_path / "x.trace")]
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, f"--max-new-tokens={count}"])
    assert "not a whole number of 0 or more" in capsys.readouterr().err


def test_a_type_of_4_bits_is_not_ignored_with_8(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["quantize", "demo", str(tmp_path / "out"), "--bits", "8", "--quant-type", "fp4"])
    assert "--quant-type applies only to 4 bit" in capsys.readouterr().err


def test_a_checkpoint_that_the_system_refuses_is_one_line(capsys):
    assert main(["inspect", "x" * 5000]) == 2
    message = capsys.readouterr().err.strip()
    assert "too long" in message
    assert "\n" not in message
    with pytest.raises(SystemExit, match="2"):
        main(["inspect", "~nobody-of-this-name/x"])
    assert "home directory" in capsys.readouterr().err


def test_the_version_is_told(capsys):
    import workbench

    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"pangu-workbench {workbench.__version__}"


def test_the_address_that_the_lab_prints_opens_the_first_notebook(monkeypatch):
    commands = []
    monkeypatch.setattr("subprocess.call", lambda command: commands.append(command) or 0)
    assert main(["lab", "--no-browser"]) == 0
    (command,) = commands
    assert command[-1] == "--no-browser"
    folder = next(part.split("=")[1] for part in command if part.startswith("--ServerApp.root_dir"))
    address = next(part.split("=")[1] for part in command if part.startswith("--LabApp.default"))
    assert (Path(folder) / address.removeprefix("/lab/tree/")).is_file()
