"""The history: what it keeps, finds and exports, and that no text in it is more than text."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import workbench as wb
from workbench.errors import HistoryError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Alternative, Generation, Step

HOSTILE = [
    "</div><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>",
    "\"'><b onmouseover=alert(1)> &lt;i&gt; {{x}} ${x} ]]> <!--",
    "‮evil‬ שלום abc مرحبا\u2066x",
    "x" * 10_000,
    "\ufffd\udc80\x00\x1b[31m\x07",
    "line\nbreak\u2028and\u2029more\r\ttab",
]  # fmt: skip


def make(text="To be", finish="eos", prompt="Say", seed=0, thinking="") -> Generation:
    """A generation of one token per character pair, with made-up log-probabilities."""
    steps = []
    for span, part in (("thinking", thinking), ("answer", text)):
        for place in range(0, len(part), 2):
            piece = part[place : place + 2]
            other = Alternative(7, "<img src=x>", -2.0, True, -2.5)
            steps.append(Step(40 + place, piece, piece, -0.25, (other,), span, -0.5, 1.5))
    recipe = Recipe(
        "demo", "abc123", 4, "nf4", "cpu", prompt, (1, 2, 3), sampling=wb.Sampling(seed=seed)
    )
    ids = (1, 2, 3, *(step.token_id for step in steps))
    return Generation(ids, 3, tuple(steps), finish, recipe=recipe)


@pytest.fixture
def history(tmp_path):
    return wb.History(tmp_path / "history.jsonl")


def test_a_generation_is_found_again_after_a_restart(history):
    generation = make("To be, or not", thinking="Hm hm", seed=3)
    kept = history.add(generation, seconds=1.25)
    again = wb.History(history.path)[-1]
    assert again == kept
    assert (again.text, again.answer, again.thinking) == (generation.text, "To be, or not", "Hm hm")
    assert (again.model, again.prompt, again.seconds, again.finish_reason) == (
        "demo",
        "Say",
        1.25,
        "eos",
    )
    assert again.tokens["ids"] == [step.token_id for step in generation.steps]
    assert again.tokens["logprobs"] == [-0.25] * len(generation.steps)
    assert again.logprob_mean == -0.25
    assert Recipe.from_dict(again.recipe) == generation.recipe
    assert again.generation() == history[0].generation()
    rebuilt = again.generation()
    assert (rebuilt.text, rebuilt.token_ids, rebuilt.prompt_length) == (
        generation.text,
        generation.token_ids,
        3,
    )
    assert rebuilt.recipe == generation.recipe
    assert [s.span for s in rebuilt.steps] == [s.span for s in generation.steps]


def test_alternatives_are_kept_where_they_are_asked_for(tmp_path):
    history = wb.History(tmp_path / "h.jsonl", alternatives=3)
    history.add(make("ab"))
    assert history[0].tokens["alternatives"] == [[[7, "<img src=x>", -2.0]]]
    assert history[0].generation().steps[0].alternatives[0].piece == "<img src=x>"


def test_a_real_generation_is_kept_with_its_recipe(moe, tmp_path):
    history = wb.History(tmp_path / "h.jsonl")
    generation = moe.generate("To be", 5, wb.Sampling(seed=4))
    history.add(generation)
    again = wb.History(history.path)[0]
    assert again.generation().token_ids == generation.token_ids
    repeated = moe.generate(again.generation().recipe.prompt, 5, again.generation().recipe.sampling)
    assert repeated.text == again.text


def test_what_a_stop_string_cut_off_and_which_it_was_is_kept(history):
    made = make("ab, carr")
    last = [replace(step, text="", cut=step.text) for step in made.steps[1:]]
    recipe = replace(made.recipe, stop_strings=("zz", ", car"))
    steps = (made.steps[0], *last)
    cut = replace(made, steps=steps, finish_reason="stop_string", recipe=recipe)
    history.add(cut)
    again = wb.History(history.path)[0].generation()
    assert [(step.text, step.cut) for step in again.steps] == [
        ("ab", ""), ("", ", "), ("", "ca"), ("", "rr"),
    ]  # fmt: skip
    assert (again.text, again.stop_string) == ("ab", ", car")
    history.add(make("ab"))
    assert "cuts" not in history[1].tokens


def test_text_that_a_stop_string_held_back_is_kept(history):
    generation = Generation((1, 9), 1, (Step(9, "a", "", -0.5, (), "answer"),), "length", tail="a")
    history.add(generation)
    assert history[0].text == history[0].answer == history[0].generation().text == "a"


def test_ratings_and_notes_are_later_lines_of_the_file(history):
    entry = history.add(make())
    before = history.path.read_bytes()
    history.rate(entry, 4)
    history.rate(entry.id, note="good <b>")
    history.rate(entry, 5)
    assert history.path.read_bytes().startswith(before)
    again = wb.History(history.path)[entry.id]
    assert (again.rating, again.note) == (5, "good <b>")


def test_a_rating_can_be_taken_back(history, tmp_path):
    entry = history.add(make())
    history.rate(entry, 4, "good")
    before = history.path.read_bytes()
    history.rate(entry, 0)
    assert history.path.read_bytes().startswith(before)
    again = wb.History(history.path)
    assert (again[0].rating, again[0].note) == (None, "good")
    assert again.table()["rating"].isna().tolist() == [True]
    assert len(again.table(min_rating=1)) == 0
    again.to_jsonl(tmp_path / "export.jsonl")
    assert json.loads((tmp_path / "export.jsonl").read_text())["rating"] is None
    history.rate(entry, 2)
    assert wb.History(history.path)[0].rating == 2


def test_branches_know_what_they_leave_and_make_a_tree(history, tmp_path):
    root = history.add(make("ab"))
    branch = history.add(make("ac"), parent=root.id, at=1)
    other = history.add(make("b"))
    leaf = history.add(make("ad"), parent=branch.id, at=1)
    history.rename(branch, "<b>the better")
    again = wb.History(history.path)
    assert [entry.id for entry in again.tree(leaf)] == [root.id, branch.id, leaf.id]
    assert again.tree(root.id) == again.tree(branch.id) == again.tree(leaf.id)
    assert [entry.id for entry in again.tree(other)] == [other.id]
    assert (again[1].parent, again[1].at, again[1].name) == (root.id, 1, "<b>the better")
    columns = again.table()[["parent", "at", "name"]]
    assert columns.iloc[3].tolist() == [branch.id, 1, ""]
    with pytest.raises(HistoryError, match="no generation 'x'"):
        again.tree("x")
    with pytest.raises(HistoryError, match="no generation 'x'"):
        again.rename("x", "name")
    page = again.to_html()
    assert "branches from 1 at token 1 (counted from 0), named &lt;b&gt;the better" in page
    assert "branches from 2 at token 1" in page
    again.to_jsonl(tmp_path / "export.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "export.jsonl").read_text().splitlines()]
    assert [line["parent"] for line in lines] == ["", root.id, "", branch.id]


def test_what_was_removed_is_in_the_history_and_not_in_its_tree(history, tmp_path):
    root = history.add(make("ab"))
    branch = history.add(make("ac"), parent=root.id, at=1)
    leaf = history.add(make("ad"), parent=branch.id, at=1)
    history.remove(leaf)
    again = wb.History(history.path)
    assert [entry.id for entry in again] == [root.id, branch.id, leaf.id]
    assert [entry.id for entry in again.tree(root)] == [root.id, branch.id]
    history.remove(branch)
    assert [entry.id for entry in again.tree(root)] == [root.id]
    assert [entry.id for entry in again.tree(leaf)] == [root.id, branch.id, leaf.id]
    history.remove(leaf, False)  # what another one leaves is a part of the tree again
    assert [entry.id for entry in again.tree(root)] == [root.id, branch.id, leaf.id]
    again.to_jsonl(tmp_path / "export.jsonl")
    lines = (tmp_path / "export.jsonl").read_text().splitlines()
    assert [json.loads(line)["removed"] for line in lines] == [False, True, False]
    with pytest.raises(HistoryError, match="no generation 'x'"):
        again.remove("x")


@pytest.mark.parametrize(
    ("rating", "note", "expected"),
    [(6, None, "1 to 5"), (-1, None, "1 to 5"), (2.5, None, "1 to 5"), (True, None, "1 to 5"),
     (None, None, "nothing to write"), (None, 3, "expected a text")],
)  # fmt: skip
def test_another_rating_or_note_is_refused(history, rating, note, expected):
    entry = history.add(make())
    before = history.path.read_bytes()
    with pytest.raises(HistoryError, match=expected):
        history.rate(entry, rating, note)
    with pytest.raises(HistoryError, match="no generation 'x'"):
        history.rate("x", 3)
    assert history.path.read_bytes() == before


def test_the_table_filters(history):
    history.add(make("Brave new world", prompt="One"))
    second = history.add(make("床前明月光", "length", prompt="静夜思"))
    history.rate(second, 4, "poem")
    assert history.table()["text"].tolist() == ["Brave new world", "床前明月光"]
    assert history.table(contains="BRAVE")["prompt"].tolist() == ["One"]
    assert history.table(contains="poem")["rating"].tolist() == [4]
    assert history.table(min_rating=4)["id"].tolist() == [second.id]
    assert history.table(finish_reason="length")["id"].tolist() == [second.id]
    assert len(history.table(model="other")) == 0
    assert history.table(model="other").columns.tolist() == history.table().columns.tolist()


def test_an_empty_history_has_an_empty_table_and_page(history):
    assert len(history) == 0
    assert len(history.table()) == 0
    assert "0 generations" in history.to_html()
    with pytest.raises(HistoryError, match="0 generations, and no place -1"):
        history[-1]


def test_strange_lines_of_other_hands_do_no_harm(history):
    history.add(make())
    with history.path.open("a") as file:
        file.write('{"kind": "generation", "id": "x", "tokens": 3, "recipe": [], "text": null}\n')
        file.write('{"kind": "generation", "id": "y", "tokens": {"texts": [3]}, "rating": "5"}\n')
        file.write(
            '{"kind": "mark", "id": "y", "rating": 7, "note": 3}\n{"kind": "later"}\nhalf {"a"'
        )
    with pytest.warns(UserWarning, match="line 6 is damaged"):
        entries = wb.History(history.path).entries()
    assert [entry.num_tokens for entry in entries] == [3, 0, 0]
    assert (entries[2].rating, entries[2].note) == (None, "")
    assert len(history.table()) == 3
    assert "3 generations" in history.to_html()


def test_the_export_to_jsonl_holds_one_line_per_generation(history, tmp_path):
    entry = history.add(make(HOSTILE[0]))
    history.rate(entry, 2)
    assert history.to_jsonl(tmp_path / "out.jsonl") == 1
    line = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert (line["text"], line["rating"], line["recipe"]["checkpoint"]) == (HOSTILE[0], 2, "demo")
    with pytest.raises(HistoryError, match="the history itself"):
        history.to_jsonl(history.path)


class Read(HTMLParser):
    """What an HTML page says, and which elements and attributes it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes = "", set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text_on_the_page(history, text):
    calm = history.to_html()
    entry = history.add(make(text, prompt=text, finish=text, thinking=text))
    history.rate(entry, note=text)
    page = Read(wb.History(history.path).to_html())
    assert page.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "span", "article", "div", "details", "summary"}  # fmt: skip
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "title", "id", "dir"}  # fmt: skip
    assert "script" not in Read(calm).tags
    shown = text.translate({c: f"U+{c:04X}" for c in map(ord, text) if not chr(c).isprintable() and chr(c) not in "\n\t"})  # fmt: skip
    if "\u2028" not in text:
        assert shown in page.text


def test_the_page_colours_tokens_by_probability(history):
    steps = tuple(
        Step(1, piece, piece, math.log(chance), (), "answer")
        for piece, chance in (("a", 0.1), ("b", 0.5), ("c", 0.999), ("d", 1.0))
    )
    history.add(Generation((1,), 0, steps, "eos"))
    page = history.to_html()
    for level, piece, shown in (
        (3, "a", "10.0"),
        (1, "b", "50.0"),
        (0, "c", "99.9"),
        (0, "d", "100.0"),
    ):
        assert (
            f'<span class="p{level}" title="&#x27;{piece}&#x27;: {shown} %">{piece}</span>' in page
        )


def test_the_table_and_the_page_tell_thinking_from_the_answer(history):
    history.add(make(" 72", thinking="7 ."))
    history.add(make("Hi"))
    history.add(make("", "length", thinking="Hm"))
    table = history.table()
    assert table["thinking"].tolist() == ["7 .", "", "Hm"]
    assert table["answer"].tolist() == ["72", "Hi", ""]
    page = re.sub("</?span[^>]*>", "", history.to_html())
    box = '<div class="text" dir="auto">'
    said = re.findall(f"<h3>(Text|Thinking|Answer)</h3>{box}([^<]*)<", page)
    assert said == [("Thinking", "7 ."), ("Answer", " 72"), ("Text", "Hi"), ("Thinking", "Hm")]


def test_a_page_of_a_text_that_its_tokens_do_not_make_up_tells_thinking_apart_too(history):
    generation = make("To be", thinking="Hm")
    history.add(replace(generation, tail=" END"))
    page = history.to_html()
    assert ">Hm</span></div>" in page
    assert '<h3>Answer</h3><div class="text" dir="auto">To be END</div>' in page
