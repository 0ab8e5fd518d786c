"""The prompt matrix: its cells and their order, resuming, ratings, and what is told."""

import gc
import threading
import weakref

import pytest

import workbench as wb
from tests.helpers.fake_server import BREAK, chat, entry, fake_server
from workbench.errors import GenerationError, HistoryError
from workbench.prompts.prompt_template import Template, checked_variants

SETTINGS = {
    "greedy": wb.Sampling.greedy(),
    "warm": wb.Sampling(1.0, seed=3),
    "hot": wb.Sampling(2.0),
}


def make(moe, path=None, template="Say {{word}} in {{language}}", settings=None, **more):
    variants = {"word": ["one", "two"], "language": ["French"]}
    return wb.PromptMatrix(
        template, variants, settings or SETTINGS, moe, path, max_new_tokens=3, **more
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "matrix.jsonl"


# -- templates ----------------------------------------------------------------------------------


def test_a_template_fills_its_variables_once():
    template = Template("{{a}} and {{ b_2 }}, {{a}}; \\{{a}} {x} }} 床{{名}}")
    assert template.variables == ("a", "b_2", "名")
    values = {"a": "{{b_2}}", "b_2": "\\1 \\{{", "名": "前"}
    assert template.filled(values) == "{{b_2}} and \\1 \\{{, {{b_2}}; {{a}} {x} }} 床前"


@pytest.mark.parametrize("text", ["{{}}", "x\n{{a b}}", "{{a", "{{1}}", "{{{a}}}"])
def test_braces_that_are_no_variable_are_told_with_their_line(text):
    with pytest.raises(GenerationError, match=rf"line {1 + text.count(chr(10))} of the template"):
        Template(text)


def test_variants_are_every_combination_in_a_stable_order():
    found = checked_variants({"b": ["1", "2", "3"], "a": ["x", "y"]}, ("a", "b"))
    assert [row["a"] + row["b"] for row in found] == ["x1", "x2", "x3", "y1", "y2", "y3"]
    rows = [{"a": "x", "b": "1"}, {"b": "2", "a": "y"}]
    assert checked_variants(rows, ("a", "b")) == rows
    assert checked_variants(None, ()) == [{}]


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        ({"a": ["x"]}, r"uses \{\{b\}\}, and variants has no values for it; it has 'a'"),
        ({"a": ["x"], "b": ["1"], "c": ["2"]}, r"'c', which the template does not use; it uses \{\{a\}\}, \{\{b\}\}"),
        ({"a": ["x", "x"], "b": ["1"]}, "'a' has the value 'x' twice"),
        ({"a": [], "b": ["1"]}, "'a' has no values"),
        ({"a": "xyz", "b": ["1"]}, "expected a list of texts"),
        ({"a": [1], "b": ["1"]}, "'a' is 1; expected a text"),
        ([{"a": "x", "b": "1"}, {"a": "x"}], "variant 2 has no values"),
        ([{"a": "x", "b": "1"}, {"b": "1", "a": "x"}], "variant 2 is the same as variant 1"),
        ([], "no variants"),
        (None, "has no values"),
        (["x"], "expected a dict"),
    ],
)  # fmt: skip
def test_variants_that_do_not_fit_are_told(variants, expected):
    with pytest.raises(GenerationError, match=expected):
        checked_variants(variants, ("a", "b"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"settings": {"a": wb.Sampling(), "b": wb.Sampling()}}, "'a' and 'b' are the same"),
        ({"settings": ["greedy", "greedy"]}, "'greedy' is given twice"),
        ({"settings": {"a": 0.7}}, "expected workbench.Sampling"),
        ({"models": None}, "no model"),
        ({"models": {"a": 3}}, "a function that loads one"),
        ({"mode": "talk"}, "expected one of chat, raw"),
        ({"mode": "raw", "system": "Be kind"}, "raw text has no system message"),
        ({"max_new_tokens": 1.5}, "max_new_tokens"),
    ],
)
def test_settings_and_models_that_do_not_fit_are_told(moe, change, expected):
    with pytest.raises(GenerationError, match=expected):
        wb.PromptMatrix("x", **{"models": moe, **change})


def test_an_unknown_preset_is_told(moe):
    with pytest.raises(HistoryError, match="no preset 'cold'"):
        wb.PromptMatrix("x", settings=["cold"], models=moe)


# -- running ------------------------------------------------------------------------------------


def test_every_cell_holds_what_the_model_generates(moe, path):
    matrix = make(moe, path, system="You speak {{language}}.")
    frame = matrix.run(progress=False)
    assert frame["prompt"].tolist() == ["Say one in French"] * 3 + ["Say two in French"] * 3
    assert frame["setting"].tolist() == ["greedy", "warm", "hot"] * 2
    assert frame["state"].unique().tolist() == ["done"]
    turns = [
        {"role": "system", "content": "You speak French."},
        {"role": "user", "content": "Say two in French"},
    ]
    alone = moe.generate(turns, 3, SETTINGS["warm"])
    row = frame.loc[4]
    assert row[["text", "thinking", "answer"]].tolist() == [
        alone.text,
        alone.thinking,
        alone.answer,
    ]
    assert row["tokens"] == len(alone.steps) == 3
    assert row["finish_reason"] == alone.finish_reason
    assert row["logprob_mean"] == pytest.approx(sum(s.logprob for s in alone.steps) / 3, abs=1e-5)
    assert row["recipe"] == alone.recipe.as_dict()
    assert row["language"] == "French"


def test_a_variable_may_have_the_name_of_a_column(moe):
    frame = wb.PromptMatrix("{{text}} {{tone}}", {"text": ["a"], "tone": ["b"]}, models=moe).table()
    assert frame.loc[0, ["{{text}}", "tone", "text", "state"]].tolist() == ["a", "b", "", "waiting"]


def test_raw_text_goes_to_the_model_as_it_is(moe):
    matrix = wb.PromptMatrix(
        "To be{{x}}", {"x": [",", "!"]}, models=moe, mode="raw", max_new_tokens=2
    )
    matrix.run(progress=False)
    assert matrix.result(1).text == moe.generate("To be!", 2).text


def test_an_interruption_keeps_the_finished_cells_and_the_rest_is_run_later(moe, path):
    matrix = make(moe, path)
    whole = make(moe).run(progress=False)
    started = []

    def interrupt(cell, result, step):
        if result.state == "running" and step is None:
            started.append(cell.place)
        if cell.place == 2 and step is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matrix.run(on_news=interrupt, progress=False)
    assert started == [0, 1, 2]
    assert matrix.table()["state"].tolist() == ["done", "done", *["waiting"] * 4]
    again = make(moe, path)  # another session
    assert again.table()["state"].tolist() == ["done", "done", *["waiting"] * 4]
    started.clear()
    frame = again.run(
        on_news=lambda cell, result, step: result.state == "running" and started.append(cell.place),
        progress=False,
    )
    assert sorted(set(started)) == [2, 3, 4, 5]
    assert frame["text"].tolist() == whole["text"].tolist()
    again.run(on_news=lambda *_: pytest.fail("nothing is left to do"), progress=False)


def test_stop_keeps_the_finished_cells(moe):
    matrix, stop = make(moe), threading.Event()

    def news(cell, result, step):
        if cell.place == 1 and step is not None:
            stop.set()

    frame = matrix.run(stop, news, progress=False)
    assert frame["state"].tolist() == ["done", *["waiting"] * 5]
    assert matrix.run(progress=False)["state"].unique().tolist() == ["done"]


def test_a_matrix_runs_once_at_a_time(moe):
    matrix, told = make(moe), []

    def again(*_):
        if not told:
            with pytest.raises(GenerationError, match="already running"):
                matrix.run(progress=False)
            told.append(True)

    matrix.run(on_news=again, progress=False)
    assert told


def test_no_other_generation_comes_between_two_cells(moe):
    matrix, outcomes = make(moe), []

    def intrude():
        try:
            outcomes.append(moe.generate("To be", 1).text)
        except GenerationError as error:
            outcomes.append(str(error))

    def hear(cell, result, step):
        if result.state == "done":
            other = threading.Thread(target=intrude)
            other.start()
            other.join(60)

    matrix.run(on_news=hear, progress=False)
    assert len(outcomes) == len(matrix.cells)
    assert all("already generating, in the thread 'MainThread'" in said for said in outcomes)
    outcomes.clear()
    other = threading.Thread(target=intrude)  # afterwards the model is free
    other.start()
    other.join(60)
    assert "already generating" not in outcomes[0]


def test_a_changed_setting_is_noticed_and_only_its_cells_are_run(moe, path):
    make(moe, path).run(progress=False)
    changed = {**SETTINGS, "warm": wb.Sampling(1.5, seed=3)}
    with pytest.warns(UserWarning, match="2 cells of another template.*4 of the 6 cells"):
        matrix = make(moe, path, settings=changed)
    assert matrix.table()["state"].tolist() == ["done", "waiting", "done"] * 2
    assert [record["setting"] for record in matrix.stale] == ["warm", "warm"]


def test_a_changed_template_or_model_is_noticed(moe, dense, path):
    make(moe, path).run(progress=False)
    with pytest.warns(UserWarning, match="6 cells of another template.*0 of the 6"):
        make(moe, path, template="Tell {{word}} in {{language}}")
    with pytest.warns(UserWarning, match="6 cells of another template.*0 of the 6"):
        matrix = make({moe.name: dense}, path)
    texts = matrix.run(progress=False)["text"].tolist()
    assert make({moe.name: dense}, path).table()["text"].tolist() == texts


def test_ratings_and_notes_are_there_in_the_next_session(moe, path):
    matrix = make(moe, path)
    with pytest.raises(HistoryError, match="cell 3 is not finished"):
        matrix.rate(3, 5)
    matrix.run(progress=False)
    matrix.rate(3, 5)
    matrix.rate(3, note="<b>best</b>")
    matrix.rate(0, 1, "bad")
    matrix.rate(1, 2)
    matrix.rate(1, 0)
    assert matrix.result(1).rating is None
    frame = make(moe, path).table()
    assert frame.loc[3, ["rating", "note"]].tolist() == [5, "<b>best</b>"]
    assert frame["rating"].isna().tolist() == [False, True, True, False, True, True]
    with pytest.raises(HistoryError, match="there is no cell 6"):
        matrix.rate(6, 1)
    with pytest.raises(HistoryError, match="expected 1 to 5"):
        matrix.rate(0, 9)


def test_models_run_one_after_another_and_only_one_is_in_memory(tiny_dense, tiny_moe, path):
    loaded, alive = [], []

    def loader(name, folder):
        def load():
            gc.collect()
            assert not any(model() for model in alive)
            pangu = wb.load(folder, bits=16, device="cpu")
            loaded.append(name)
            alive.append(weakref.ref(pangu))
            return pangu

        return load

    models = {"dense": loader("dense", tiny_dense), "moe": loader("moe", tiny_moe)}
    frame = make(models, path).run(progress=False)
    assert loaded == ["dense", "moe"]
    assert frame["model"].tolist() == ["dense"] * 6 + ["moe"] * 6
    assert frame.loc[0, "text"] != frame.loc[6, "text"]
    make(models, path).run(progress=False)
    assert loaded == ["dense", "moe"]  # nothing was left to do, so nothing was loaded


def test_a_cell_that_fails_is_told_and_the_others_go_on(moe):
    matrix = wb.PromptMatrix("{{x}}", {"x": ["a", "b" * 3000, "c"]}, models=moe, max_new_tokens=2)
    frame = matrix.run(progress=False)
    assert frame["state"].tolist() == ["done", "error", "done"]
    assert "context" in frame.loc[1, "error"]


def test_a_server_that_breaks_ends_its_models_turn_and_the_rest_is_run_later(moe, path):
    with fake_server(chunks=[chat("4", [entry("4", -0.5)]), chat("", [], finish="stop")]) as script:
        server = wb.connect(script.url)
        models = {"server": server, "moe": moe}
        settings = {"greedy": wb.Sampling.greedy(), "warm": wb.Sampling(1.0)}
        matrix = make(models, path, settings=settings)

        def news(cell, result, step):
            if result.state == "done" and cell.place == 1:
                script.chunks = [chat("5"), BREAK]

        frame = matrix.run(on_news=news, progress=False)
        assert frame["state"].tolist() == ["done"] * 2 + ["error"] * 2 + ["done"] * 4
        assert "broke in the middle" in frame.loc[2, "error"]
        assert len(script.requests) == 3
        script.chunks = [chat("6", [entry("6", -0.5)]), chat("", [], finish="stop")]
        frame = make(models, path, settings=settings).run(progress=False)
        assert frame["text"].tolist()[:4] == ["4", "4", "6", "6"]
        assert frame.loc[0, "logprob_mean"] == -0.5


def test_a_server_that_is_none_of_openais_ends_its_models_turn_alone(moe):
    with fake_server(chunks=[{"choices": [None]}]) as script:
        models = {"server": wb.connect(script.url), "moe": moe}
        settings = {"greedy": wb.Sampling.greedy()}
        frame = make(models, settings=settings).run(progress=False)
    assert frame["state"].tolist() == ["error"] * 2 + ["done"] * 2
    assert "is this the right address" in frame.loc[0, "error"]


def test_a_model_that_cannot_be_loaded_is_told(moe, tmp_path):
    models = {"gone": lambda: wb.load(tmp_path / "gone"), "none": lambda: None, "moe": moe}
    frame = wb.PromptMatrix("a", models=models, max_new_tokens=1).run(progress=False)
    assert frame["state"].tolist() == ["error", "error", "done"]
    assert "gone" in frame.loc[0, "error"]
    assert "expected a loaded model" in frame.loc[1, "error"]
