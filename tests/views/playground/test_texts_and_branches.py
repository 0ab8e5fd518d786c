"""The playground in Python: texts and branches."""

import json

import pytest

import workbench as wb
from tests.helpers.fake_server import chat, entry, fake_server
from tests.views.playground.playgrounds import generate, steps_told
from workbench.errors import GenerationError
from workbench.generation.steps import Generation, Step
from workbench.generation.stream import Stream
from workbench.views import Playground


def test_a_generation_is_what_the_model_generates_from_code(play, moe):
    ours = generate(play)
    expected = moe.generate("To be", 6, play.sampling)
    assert ours.token_ids == expected.token_ids
    assert [step["id"] for step in steps_told(play)] == [step.token_id for step in expected.steps]
    assert list(play.table()["piece"]) == [step.piece for step in expected.steps]
    assert play.recipe == expected.recipe
    last = play.told[-1]
    assert (last["kind"], last["status"]["finish"]) == ("tree", "length")


def test_the_text_that_the_model_reads_follows_the_conversation(moe, play):
    play.mode = "chat"
    play.system, play.prompt = "Be brief.", "床前 [unused10]?"
    play.turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "床前 [unused10]?"},
    ]
    assert play.conversation == messages
    assert play.text == moe.tokenizer.render_chat(messages)
    play.thinking = "fast"
    assert play.text.count("/no_think") == 1
    ids = moe.encode(messages, "fast")
    assert play.told[-1] == {"kind": "count", "count": len(ids), "special": ["[unused10]"]}
    assert generate(play).token_ids[: len(ids)] == tuple(ids)


def test_an_edit_of_the_text_switches_to_raw_and_back_to_the_conversation(play):
    play.mode, play.prompt = "chat", "Hello"
    templated = play.text
    play.text = templated + "Well,"
    assert play.mode == "raw"
    assert generate(play).recipe.prompt == templated + "Well,"
    play.mode = "chat"
    assert play.text == templated
    assert play.prompt == "Hello"


def test_going_on_makes_the_answer_a_part_of_what_is_asked(play):
    play.mode, play.prompt = "chat", "Hello"
    answer = generate(play).answer
    play.follow_up()
    assert play.turns == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": answer},
    ]
    assert play.prompt == ""


@pytest.mark.parametrize("thought", ["[unused16]Hm", "[unused16]Hm[unused17]"])
def test_thinking_without_an_answer_is_no_turn_to_go_on_from(play, moe, thought):
    play.mode, play.prompt, play.max_new_tokens = "chat", "Hello", 1
    play.logit_bias = [(moe.tokenizer.eos_token_id, 100.0)]
    generate(play)
    play.branch(0, thought)
    assert play.wait(60).answer == ""
    asked = play.conversation
    play._on_message(play, {"kind": "follow_up"}, [])
    said = play.told[-1]["text"]
    assert "only thinking and no answer" in said
    assert "the model ended its turn there" in said
    assert play.conversation == asked


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("length", "with a larger value"),
        ("context", "context is full"),
        ("stop_string", "the stop string 'zz' was reached. Remove it"),
        ("stopped", "let it finish"),
        ("abort", "it ended with 'abort'"),
    ],
)
def test_why_there_is_only_thinking_is_said_with_what_to_do(reason, said, play):
    thought = (Step(1, "hm", "hm", -0.5, (), "thinking"),)
    stop_string = "zz" if reason == "stop_string" else None
    recipe = generate(play, mode="chat", prompt="Hello").recipe
    play.branches.add(Generation((1,), 0, thought, reason, stop_string, recipe=recipe))
    with pytest.raises(GenerationError, match=said) as caught:
        play.follow_up()
    assert reason == "length" or "max tokens" not in str(caught.value)


def test_a_branch_has_as_many_new_tokens_after_a_restart_as_before(play, moe):
    generate(play)
    play.branch(2)
    play.wait(60)
    again = Playground(moe)
    again.restore(again.history[-1].id)
    assert again._status["tokens"] == play._status["tokens"] == 6
    assert len(again.generation.steps) == 8


def test_a_branch_is_a_fresh_run_of_its_text(play, moe):
    root = generate(play)
    other = root.steps[2].alternatives[1].token_id
    if other == root.steps[2].token_id:
        other = root.steps[2].alternatives[0].token_id
    play._on_message(play, {"kind": "branch", "place": 2, "token": other}, [])
    branch = play.wait(60)
    assert [s.token_id for s in branch.steps[:3]] == [*(s.token_id for s in root.steps[:2]), other]
    begun = [step.token_id for step in branch.steps[:3]]
    fresh = moe.generate("To be", 6, play.sampling, begun=begun)
    assert branch.token_ids == fresh.token_ids
    assert [step["id"] for step in steps_told(play)] == [step.token_id for step in branch.steps]
    assert [step["given"] for step in steps_told(play)] == [False] * 2 + [True] + [False] * 6
    assert play.branches.current.parent == 0
    assert [node["depth"] for node in play.told[-1]["nodes"]] == [0, 1]


def test_a_branch_keeps_the_prompt_of_its_answer_and_going_to_it_shows_that(play):
    play.mode, play.prompt = "chat", "Hello"
    root = generate(play)
    play.text = "something else"  # raw, and not generated
    play.branch(1)
    branch = play.wait(60)
    assert branch.recipe.prompt_ids == root.recipe.prompt_ids
    assert play.branches.current.parent == 0
    play.show(0)
    assert (play.mode, play.prompt) == ("chat", "Hello")


def test_a_branch_may_go_on_with_a_text_or_draw_again(play, moe):
    root = generate(play)
    play.branch(1, " not")
    play.wait(60)
    given = moe.tokenizer.encode(" not", add_bos=False, starts_text=False)
    ids = [step.token_id for step in play.generation.steps]
    assert ids[: 1 + len(given)] == [root.steps[0].token_id, *given]
    play.show(0)
    play.seed = 8
    play.branch(0)
    again = play.wait(60)
    assert again.token_ids == moe.generate("To be", 6, play.sampling).token_ids
    assert not any(step["given"] for step in steps_told(play))  # it was drawn
    play.show(1)
    chosen = [step["given"] for step in steps_told(play)]
    assert chosen == [1 <= place < 1 + len(given) for place in range(len(ids))]
    play.show(2)
    assert not any(step["given"] for step in steps_told(play))
    with pytest.raises(GenerationError, match="no token 99; the answer has tokens 0 to 5"):
        play.branch(99)


@pytest.mark.parametrize("text", ["7", "<x>", " not", "  two"])
def test_a_branch_goes_on_with_exactly_the_text_that_was_given(play, moe, text):
    play.logit_bias = [*play.logit_bias, (moe.tokenizer.bos_token_id, -100.0)]
    space = moe.tokenizer.pieces(range(len(moe.tokenizer))).index(" ")
    root = generate(play)
    play.branch(2, space)
    spaced = play.wait(60)
    play.branch(3, text)  # after a lone space
    shared = "".join(step.text for step in root.steps[:2]) + " "
    assert spaced.text.startswith(shared)
    assert play.wait(60).text.startswith(shared + text)
    play.branch(3, moe.tokenizer.thinking_start_id)  # after a special token a text starts anew
    play.wait(60)
    play.branch(4, text)
    assert play.wait(60).text.startswith(shared + text)


def test_branches_are_shown_named_removed_and_undone(play):
    first, second = generate(play).text, generate(play, seed=9).text
    assert first != second
    play._on_message(play, {"kind": "show", "node": 0}, [])
    assert play.generation.text == first
    assert "".join(step["text"] for step in steps_told(play)) == first
    play._on_message(play, {"kind": "rename", "node": 1, "name": "the other"}, [])
    assert play.branches[1].name == "the other"
    play._on_message(play, {"kind": "remove", "node": 0}, [])
    assert play.generation.text == second
    play._on_message(play, {"kind": "undo"}, [])
    assert len(play.branches) == 2
    play._on_message(play, {"kind": "redo"}, [])
    assert len(play.branches) == 1


def test_what_is_undone_takes_back_what_was_asked_too(play):
    generate(play)
    generate(play, text="King")
    play.undo()
    assert (play.text, play.generation.recipe.prompt) == ("To be", "To be")
    play.redo()
    assert (play.text, play.generation.recipe.prompt) == ("King", "King")


def test_renaming_and_removing_others_leaves_open_what_is_open(play):
    generate(play)
    generate(play, seed=9)
    play.panel = "routing"
    play.wait(60)
    inside, play.token = play.inside, 2
    play._on_message(play, {"kind": "rename", "node": 1, "name": "mine"}, [])
    play._on_message(play, {"kind": "remove", "node": 0}, [])
    play._on_message(play, {"kind": "undo"}, [])
    assert (play.inside, play.panel, play.token) == (inside, "routing", 2)
    assert [node["name"] for node in play.told[-1]["nodes"]] == ["prompt 1", "mine"]
    play._on_message(play, {"kind": "remove", "node": 1}, [])  # the one on screen
    assert (play.panel, play.token) == ("routing", -1)
    assert play.inside.trace.token_ids.tolist() == list(play.generation.token_ids)


def test_a_server_that_takes_less_is_asked_for_less(play, moe, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    generate(play)
    with fake_server() as script:
        script.models = [{"id": "pangu", "owned_by": "somebody"}]  # no vLLM: no top_k
        script.chunks = [chat("To", [entry("To", -0.5)]), chat("", [], finish="stop")]
        remote = wb.connect(script.url)
        view = Playground(remote, "Say it.")
        view.told = []
        view.send = lambda content, buffers=None: view.told.append(content)
        assert (view.preset, view.top_k) == ("Pangu Pro MoE", 0)
        for name in ("greedy", "Pangu Pro MoE"):
            view.preset = name
            assert (view.preset, view.top_k) == (name, 0)
            assert view.told[-1]["text"] == "This server does not support top_k: off."
            assert generate(view).text == "To"
        view.restore(view.history[0].id)  # made with a loaded model
        assert (view.top_k, view.mode) == (0, "raw")
        assert remote.generate("Say it.", sampling=wb.Sampling.greedy()).text == "To"
        with pytest.raises(GenerationError, match="top_k=50 cannot be sent"):
            remote.generate("Say it.", sampling=wb.Sampling())
        compared = wb.ComparisonView({"here": moe, "there": remote}, "Say it.", max_new_tokens=2)
        assert [column["top_k"] for column in compared.columns] == [50, 0]
        alone = wb.ComparisonView(remote, "Say it.")
        alone.start()
        assert {made.text for made in alone.wait(60).values()} == {"To"}
        matrix = wb.PromptMatrix("Say {{word}}", {"word": ["it"]}, models=remote)
        matrix.run()
        assert matrix.table()["text"].tolist() == ["To"]


def test_a_text_that_was_made_otherwise_says_so_and_is_read_anew(play, moe, tiny_moe):
    kept = generate(play)
    play._show_current()
    assert play.told[-1]["made"] == ""
    other = wb.load(tiny_moe, bits=8, device="cpu")
    again = Playground(other)
    again.restore(again.history[0].id)
    said = again.answer({"kind": "want"})[0]["made"]
    assert said.startswith("This text was made with 16 bit: the same prompt")
    again.told = []
    again.send = lambda content, buffers=None: again.told.append(content)
    again.branch(3, kept.steps[3].token_id)
    branch = again.wait(60)
    assert [step["logprob"] for step in steps_told(again)] == list(again.table()["logprob"])
    assert [step["given"] for step in steps_told(again)][:5] == [False] * 3 + [True, False]
    assert branch.steps[:4] == other.generate("To be", 1, again.sampling, begun=[
        step.token_id for step in kept.steps[:4]
    ]).steps[:4]  # what is told of them is this model's  # fmt: skip


@pytest.mark.parametrize("end", ["stop", "stop string", "memory"])
def test_a_branch_that_ends_before_its_place_leaves_what_was_on_screen(
    end, play, tiny_moe, monkeypatch
):
    kept = generate(play)
    again = Playground(wb.load(tiny_moe, bits=8, device="cpu"))
    again.restore(again.history[0].id)
    assert again.generation.text == kept.text
    released = []
    monkeypatch.setattr(again, "_release", lambda: released.append(True))
    plain = Stream._give

    def give(stream, step):
        if len(stream.generation.steps) == 2:
            if end == "memory":
                raise MemoryError
            again._stop.set()
        plain(stream, step)

    if end == "stop string":
        again.stop_strings = [kept.steps[0].text]
    else:
        monkeypatch.setattr(Stream, "_give", give)
    again.branch(5)
    again.wait(60)
    assert again.generation.text == kept.text
    assert len(again.branches) == 1
    said = {"stop": "", "stop string": "contains the stop string", "memory": "memory is full"}[end]
    assert said in again._error
    assert bool(again._error) == bool(said)
    assert bool(released) == (end == "memory")


def test_tokens_of_another_vocabulary_are_not_gone_on_with(play, moe, tmp_path):
    generate(play)
    lines = play.history.path.read_text()
    entry = json.loads(lines)
    entry["recipe"] |= {"fingerprint": "other", "checkpoint": "another model"}
    entry["tokens"]["pieces"][1] = "something else"
    play.history.path.write_text(json.dumps(entry) + "\n")
    again = Playground(moe)
    again.restore(again.history[0].id)
    assert "made with another model" in again.answer({"kind": "want"})[0]["made"]
    with pytest.raises(GenerationError, match="with the tokens of another model"):
        again.branch(2)
    again.send = lambda content, buffers=None: None
    again.panel = "routing"
    again.wait(60)
    assert "with the tokens of another model" in again._error
    assert (again.panel, again.trace) == ("", None)


def test_a_servers_text_is_not_taken_for_a_models_own(play, moe, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_server() as script:
        script.chunks = [chat("To", [entry("To", -0.5)]), chat("", [], finish="stop")]
        remote = Playground(wb.connect(script.url), "Say it.")
        generate(remote)
        assert remote.answer({"kind": "want"})[0]["made"] == ""
        play.restore(play.history[0].id)
        assert f"made with pangu on {script.url}" in play.told[-1]["made"]
        with pytest.raises(GenerationError, match="with the tokens of pangu"):
            play.branch(0)
