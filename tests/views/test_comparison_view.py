"""The comparison in Python: columns, the same random numbers, and what differs."""

import threading

import pytest

from tests.helpers.fake_server import completion, fake_server
from workbench import Sampling, connect
from workbench.errors import GenerationError
from workbench.views import ComparisonView


def banned(pangu) -> list[list[float]]:
    """A bias with which the model never ends its turn."""
    return [[pangu.tokenizer.eos_token_id, -100.0]]


@pytest.fixture
def view(moe, dense):
    bias = banned(moe)
    columns = {
        "hot": {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "logit_bias": bias},
        "hot again": {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "logit_bias": bias},
        "dense": {"model": "dense", "temperature": 0.0, "logit_bias": bias},
    }
    view = ComparisonView(
        {"moe": moe, "dense": dense}, "To be", columns, mode="raw", max_new_tokens=7, seed=5
    )
    view.told = []
    view.send = lambda content, buffers=None: view.told.append(content)
    return view


def test_every_column_is_what_its_model_generates_alone(view, moe, dense):
    view.start()
    generations = view.wait(60)
    hot = Sampling(1.0, 1.0, 0, 5, logit_bias=banned(moe))
    greedy = Sampling.greedy(seed=5, logit_bias=banned(moe))
    assert generations["hot"].token_ids == moe.generate("To be", 7, hot).token_ids
    assert generations["hot again"].token_ids == generations["hot"].token_ids
    assert generations["dense"].token_ids == dense.generate("To be", 7, greedy).token_ids
    assert view.recipes["hot"].sampling == hot
    held = {label: [] for label in generations}
    for message in view.told:
        if message["kind"] == "steps":
            assert message["from"] == len(held[message["label"]])
            held[message["label"]] += message["steps"]
    for label, generation in generations.items():
        assert [step["id"] for step in held[label]] == [step.token_id for step in generation.steps]


def test_columns_grow_in_turn(view):
    view.start()
    view.wait(60)
    first = [m["label"] for m in view.told if m["kind"] == "steps" and m["from"] == 0]
    assert first[:3] == ["hot", "hot again", "dense"]


def test_differences_are_tokens_that_the_reference_lacks(view):
    view.start()
    generations = view.wait(60)
    marks = view.told[-1]
    assert marks["kind"] == "marks"
    assert marks["differences"]["hot"] == marks["differences"]["hot again"] == []
    base = [step.token_id for step in generations["hot"].steps]
    other = [step.token_id for step in generations["dense"].steps]
    table = view.table().set_index("label")
    assert list(table.columns) == [
        "model", "thinking", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
        "logit_bias", "tokens", "first_difference", "same", "logprob_mean", "finish_reason", "text",
    ]  # fmt: skip
    assert table.loc["hot again", "same"] == 1
    assert table["first_difference"].isna().tolist()[:2] == [True, True]
    places = [n for n, (one, two) in enumerate(zip(base, other, strict=True)) if one != two]
    assert table.loc["dense", "first_difference"] == places[0]
    assert table.loc["dense", "same"] == pytest.approx(1 - len(marks["differences"]["dense"]) / 7)
    kept = [token for n, token in enumerate(other) if n not in marks["differences"]["dense"]]
    left = iter(base)
    assert all(token in left for token in kept)  # in the reference's order
    view.reference = 2
    assert view.told[-1]["differences"]["dense"] == []
    assert view.told[-1]["differences"]["hot"] != []


def test_what_was_generated_stays_with_its_column(view):
    view.reference = 1
    view.start()
    made = view.wait(60)
    _, again, dense = view.columns
    view.columns = [dense, again]
    assert (view.generations, view.reference) == ({k: made[k] for k in ("hot again", "dense")}, 1)
    view.columns = [{**dense, "label": "named"}, {**again, "label": "added"}]
    view.columns = [view.columns[0], {**again, "label": "other"}, again]
    assert view.generations == {"named": made["dense"]}
    assert view.reference == 0  # the one that it was is gone
    shown = view.answer({"kind": "want"})[0]
    ids = [step["id"] for step in shown["steps"]["named"]]
    assert ids == [step.token_id for step in made["dense"].steps]
    assert shown["statuses"]["named"]["tokens"] == 7
    assert list(view.table()["label"]) == ["named"]
    assert view.told[-1] == shown  # a page draws the columns anew


def test_a_text_keeps_the_settings_that_it_was_made_with(view):
    view.start()
    made = view.wait(60)
    hot, again, dense = view.columns
    assert view.told[-1]["changed"] == []
    view.columns = [{**hot, "temperature": 0.5}, again, {**dense, "model": "moe", "top_k": 3}]
    assert view.told[-1]["kind"] == "marks"
    assert (
        view.told[-1]["changed"] == view.answer({"kind": "want"})[0]["changed"] == ["hot", "dense"]
    )
    table = view.table().set_index("label")
    assert list(table["model"]) == ["moe", "moe", "dense"]
    assert list(table["temperature"]) == [1.0, 1.0, 0.0]
    assert table.loc["dense", "top_k"] == made["dense"].recipe.sampling.top_k != 3
    view.columns = [{**view.columns[0], "label": "named"}, again, dense]  # one named, one set back
    assert view.told[-1]["changed"] == ["named"]
    assert view.generations["named"] is made["hot"]
    view.columns = [{**hot, "label": "named"}, again, dense]
    assert view.told[-1]["changed"] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "Else"),
        ("seed", 8),
        ("max_new_tokens", 3),
        ("stop_strings", ["x"]),
        ("mode", "chat"),
    ],
)
def test_texts_of_another_prompt_say_so(view, name, value):
    view.start()
    view.wait(60)
    before = getattr(view, name)
    assert before != value
    setattr(view, name, value)
    assert view.told[-1]["changed"] == ["hot", "hot again", "dense"]
    setattr(view, name, before)
    assert view.told[-1]["changed"] == []


def test_a_column_in_the_place_of_another_one_gets_none_of_its_text(view):
    view.reference = 2
    view.start()
    made = view.wait(60)
    view.columns = [{"label": "new", "model": "dense"}, *view.columns[1:]]
    assert view.generations == {label: made[label] for label in ("hot again", "dense")}
    assert view.answer({"kind": "want"})[0]["steps"].keys() == view.generations.keys()
    assert list(view.table()["label"]) == ["hot again", "dense"]


def test_tokens_of_other_weights_are_compared_by_what_they_say(moe, monkeypatch):
    """A line break is a byte to the one, a character to the other; an id means nothing there."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    line_break = moe.tokenizer.pieces(range(len(moe.tokenizer))).index("<0x0A>")
    tokens = [("\n", 5), ("\n", 6), ("x", line_break), ("\n", line_break)]
    with fake_server() as server:
        server.chunks = [
            completion(text, {"tokens": [text], "token_logprobs": [-0.5]}, token_ids=[number])
            for text, number in tokens
        ]
        server.chunks.append(completion("", finish="length"))
        columns = {
            "here": {"model": "local", "temperature": 0.0, "logit_bias": [[line_break, 100.0]]},
            "there": {"model": "server"},
        }
        view = ComparisonView(
            {"local": moe, "server": connect(server.url)},
            "To be", columns, mode="raw", max_new_tokens=4,
        )  # fmt: skip
        view.start()
        assert view.wait(60)
    state = view.answer({"kind": "want"})[0]
    assert [step["id"] for step in state["steps"]["here"]] == [line_break] * 4
    assert state["differences"] == {"here": [], "there": [2]}
    assert state["weights"] == {"here": moe.fingerprint, "there": ""}
    assert view.table()["first_difference"].tolist()[1] == 2
    assert view.table()["same"].tolist() == [1, 0.75]


def test_the_reference_stays_the_column_that_it_was(view):
    view.reference = 2
    view.columns = [view.columns[0], view.columns[2]]
    assert view.columns[view.reference]["label"] == "dense"
    view.columns = view.columns[::-1]
    assert view.columns[view.reference]["label"] == "dense"


def test_columns_stay_as_they_are_while_they_are_generated(view):
    view.max_new_tokens = 400
    view.start()
    with pytest.raises(GenerationError, match="stop them first"):
        view.columns = view.columns[:1]
    view.stop()
    view.wait(60)


def test_no_other_generation_comes_between_the_columns(moe):
    """The first column ends with its first token, before the second has begun."""
    end = moe.tokenizer.eos_token_id
    columns = {"ends": {"logit_bias": [[end, 100.0]]}, "goes on": {"logit_bias": [[end, -100.0]]}}
    view = ComparisonView(moe, "To be", columns, mode="raw", max_new_tokens=5)
    outcomes = []

    def intrude():
        try:
            outcomes.append(moe.generate("To be", 1).text)
        except GenerationError as error:
            outcomes.append(str(error))

    def tell(content, buffers=None):  # called by the view's thread
        if content["kind"] == "steps" and content["label"] == "ends" and not outcomes:
            other = threading.Thread(target=intrude)
            other.start()
            other.join(60)

    view.send = tell
    view.start()
    assert len(view.wait(60)["goes on"].steps) == 5
    assert "already generating, in the thread 'ComparisonView'" in outcomes[0]
    assert moe.generate("To be", 1).steps


def test_it_stops_and_an_error_is_shown(view):
    view.max_new_tokens = 400
    view.start()
    with pytest.raises(GenerationError, match="is running"):
        view.start()
    view.stop()
    assert {g.finish_reason for g in view.wait(60).values()} == {"stopped"}
    view.columns = [{"label": "wrong", "top_p": 2.0}]
    view.start()
    assert view.wait(60) is None
    assert "top-p (top_p) is 2.0" in view.told[-1]["error"]


@pytest.mark.parametrize("change", [{"seed": 6}, {"reference": 1}, {"columns": [{"label": "one"}]}])
def test_an_error_goes_with_the_next_change(change, view):
    view._fail("the model is generating already")
    view.told.clear()
    for name, value in change.items():
        setattr(view, name, value)
    assert [message["error"] for message in view.told if "error" in message][-1] == ""


def test_a_conversation_keeps_its_earlier_turns(moe):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "To be?"},
    ]
    columns = {"slow": {}, "fast": {"thinking": "fast"}}
    view = ComparisonView(moe, messages, columns, max_new_tokens=2)
    assert view.prompt == "To be?"
    view.start()
    assert view.wait(60)["fast"].recipe.prompt_ids == tuple(moe.encode(messages, "fast"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([], "no column"),
        ([{"heat": 1}], "no setting 'heat'"),
        ([{"label": "a"}, {"label": "a"}], "is used twice"),
        ([{"model": "9b"}], "no model '9b'"),
    ],
)
def test_columns_that_make_no_sense_are_refused(columns, message, moe):
    with pytest.raises(GenerationError, match=message):
        ComparisonView(moe, "To be", columns)


def test_without_columns_every_model_or_the_usual_settings_and_greedy_are_compared(moe, dense):
    assert [c["label"] for c in ComparisonView(moe).columns] == ["usual", "greedy"]
    view = ComparisonView({"a": moe, "b": dense})
    assert [(c["label"], c["model"]) for c in view.columns] == [("a", "a"), ("b", "b")]
