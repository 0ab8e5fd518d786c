"""The grid of a prompt matrix in Python: what it tells its page, and how it runs and stops."""

import re
import threading

import pytest

import workbench as wb
from tests.helpers.scripted import Scripted
from workbench.errors import GenerationError


def answer(prompt, sampling):
    return [("Hm. ", "thinking"), prompt[-1], "!" * int(sampling.temperature)]


def make(path=None, gate=None):
    models = {"a": Scripted(answer, "a", gate), "b": Scripted(answer, "b", gate)}
    settings = {"one": wb.Sampling(1.0), "two": wb.Sampling(2.0), "three": wb.Sampling(3.0)}
    return wb.PromptMatrix("{{x}}", {"x": ["p", "q"]}, settings, models, path)


def heard(view):
    """What the view sends from now on."""
    messages = []
    view.send = lambda content, buffers=None: messages.append(content)
    return messages


def test_script_and_class_have_the_same_traits():
    view = wb.PromptMatrixView
    script = view._esm
    used = set(re.findall(r'model\.(?:get|set)\("(\w+)"', script))
    heard = set(re.findall(r'on\("change:(\w+)"', script))
    documented = set(re.findall(r"@property \{[^}]+\} (\w+)", script))
    assert used | heard == documented == {"cell", "running", "doing"}
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|innerHTML|insertAdjacentHTML", script)


def test_the_state_puts_every_cell_into_its_row_and_column():
    matrix = make()
    matrix.run(progress=False)
    state = wb.PromptMatrixView(matrix).answer({"kind": "want"})[0]
    assert state["columns"] == [[m, s] for m in "ab" for s in ("one", "two", "three")]
    assert len(state["cells"]) == len(matrix.cells) == 12
    for cell, (row, column, shown) in zip(matrix.cells, state["cells"], strict=True):
        assert state["rows"][row] == cell.variables
        assert state["columns"][column] == [cell.model, cell.setting]
        assert shown["answer"] == cell.prompt + "!" * (column % 3 + 1)
        assert shown["thinking"] == "Hm."
    assert (state["done"], state["failed"], state["stale"]) == (12, 0, 0)


def test_a_run_is_told_step_by_step_and_a_second_one_is_refused():
    gate = threading.Semaphore(0)
    view = wb.PromptMatrixView(make(gate=gate))
    messages = heard(view)
    view.start()
    with pytest.raises(GenerationError, match="stop it first"):
        view.start()
    view.answer({"kind": "run"})  # a second click does nothing
    gate.release(12 * 4)
    frame = view.wait(30)
    assert frame["state"].unique().tolist() == ["done"]
    assert not view.running
    cells = [(m["cell"], m["shown"]["state"]) for m in messages if m["kind"] == "cell"]
    assert cells == [(place, state) for place in range(12) for state in ("running", "done")]
    assert any(m["kind"] == "more" for m in messages)
    assert messages[-1] == {"kind": "progress", "done": 12, "failed": 0, "error": ""}


def test_stop_keeps_what_is_done_and_run_goes_on(tmp_path):
    gate = threading.Semaphore(5)  # one cell, and a step of the next
    matrix = make(tmp_path / "m.jsonl", gate)
    view = wb.PromptMatrixView(matrix)
    second = threading.Event()
    matrix.watchers.append(lambda cell, result, step: cell.place == 1 and step and second.set())
    view.start()
    assert second.wait(30)
    assert view.answer({"kind": "want"})[0]["cells"][1][2]["written"] == [["Hm. ", "thinking"]]
    view.answer({"kind": "stop"})
    gate.release()
    frame = view.wait(30)
    assert frame["state"].tolist() == ["done", *["waiting"] * 11]
    gate.release(100)
    view.answer({"kind": "run"})
    assert view.wait(30)["state"].unique().tolist() == ["done"]


def test_ratings_of_the_page_and_of_code_are_told_to_the_page():
    matrix = make()
    view = wb.PromptMatrixView(matrix)
    messages = heard(view)
    view.answer({"kind": "rate", "cell": 2, "rating": 4})
    assert "cell 2 is not finished" in messages[-1]["error"]
    matrix.run(progress=False)
    view.answer({"kind": "rate", "cell": 2, "rating": 4})
    matrix.rate(3, note="<b>")
    assert view.table().loc[2, "rating"] == 4
    told = [m for m in messages if m["kind"] == "cell"][-2:]
    assert [(m["cell"], m["shown"]["rating"], m["shown"]["note"]) for m in told] == [
        (2, 4, ""),
        (3, None, "<b>"),
    ]
    view.answer({"kind": "rate", "cell": 2, "rating": 0})
    assert [m for m in messages if m["kind"] == "cell"][-1]["shown"]["rating"] is None
    assert view.table()["rating"].isna().all()


def test_the_detail_of_a_cell_has_its_tokens_and_its_python():
    matrix = make()
    matrix.run(progress=False)
    detail = wb.PromptMatrixView(matrix).answer({"kind": "detail", "cell": 4})[0]
    assert detail["texts"] == ["Hm. ", "q", "!!"]
    assert detail["spans"] == ["thinking", "answer", "answer"]
    assert detail["prompt"] == "q"
    assert "wb.load('a', bits=16" in detail["python"]
    assert "'Hm. q!!'" in detail["python"]


def test_an_error_of_the_file_ends_the_run_and_is_told(tmp_path):
    matrix = make(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").mkdir()
    view = wb.PromptMatrixView(matrix)
    view.start()
    view.wait(30)
    assert not view.running
    state = view.answer({"kind": "want"})[0]
    assert "cannot be written" in state["error"] + state["cells"][0][2]["error"]


def test_a_closed_view_no_longer_watches():
    matrix = make()
    view = wb.PromptMatrixView(matrix)
    view.close()
    assert matrix.watchers == []


def test_the_figure_shows_the_first_texts():
    matrix = make()
    matrix.run(progress=False)
    matrix.rate(0, 3)
    cells = wb.PromptMatrixView(matrix).figure().axes[0].tables[0].get_celld()
    assert cells[1, 1].get_text().get_text() == "p!\n★★★"
    assert cells[2, 5].get_text().get_text() == "q!!"
    assert cells[0, 5].get_text().get_text() == "b · two"
