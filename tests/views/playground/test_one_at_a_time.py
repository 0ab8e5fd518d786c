"""The playground in Python: one at a time."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import workbench as wb
from tests.views.playground.playgrounds import begin_and_wait_for_tokens, generate, steps_told
from workbench.errors import GenerationError, is_out_of_memory
from workbench.generation.stream import Stream
from workbench.generation.turn import cell_ended
from workbench.views import Playground


def elsewhere(work):
    """What a function gives in another thread: there JupyterLab's clicks are heard."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(60)


def several(kind, moe):
    """A view of several short texts."""
    if kind == "comparison":
        return wb.ComparisonView(moe, "To be", mode="raw", max_new_tokens=2)
    matrix = wb.PromptMatrix("To {{a}}", {"a": ["be"]}, ["greedy"], moe, max_new_tokens=2)
    return wb.PromptMatrixView(matrix)


def test_it_stops_before_the_next_token_and_no_second_one_begins_meanwhile(play):
    four = threading.Event()
    tell = play.send

    def hear(content, buffers=None):
        tell(content)
        if len(steps_told(play)) > 3:
            four.set()

    play.send = hear
    play.max_new_tokens = 400
    play.start()
    assert four.wait(60)
    with pytest.raises(GenerationError, match="is running"):
        play.start()
    with pytest.raises(GenerationError, match="is running"):
        play.branch(1)
    play._on_message(play, {"kind": "generate"}, [])  # a click that comes too late
    assert play.generation is None
    play.stop()
    generation = play.wait(60)
    assert not play.running
    assert generation.finish_reason == "stopped"
    assert len(steps_told(play)) == len(generation.steps) < 400
    assert [m["kind"] for m in play.told].count("tree") == 1


def test_an_interrupt_while_waiting_stops_it(play, monkeypatch):
    begun = threading.Event()
    monkeypatch.setattr(
        play, "send", lambda content, _=None: content["kind"] == "steps" and begun.set()
    )
    play.max_new_tokens = 400
    play.start()
    assert begun.wait(60)
    thread, join = play._thread, play._thread.join

    def interrupted(timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        play.wait()
    join(60)
    assert play.branches.current.generation.finish_reason == "stopped"


def test_memory_that_runs_out_is_a_message_with_a_way_out(play, monkeypatch):
    kept = generate(play)
    assert play._prefixes.nbytes > 0

    def full(*_args, **_settings):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    monkeypatch.setattr(type(play.pangu), "stream", full)
    assert generate(play) is None
    assert "Out of memory" in play.told[-1]["error"]
    assert "shorter prompt" in play.told[-1]["error"]
    assert play._prefixes.nbytes == 0
    assert play.generation == kept
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_memory_that_runs_out_in_the_middle_gives_back_and_keeps_what_came(play, monkeypatch):
    generate(play)
    assert play._prefixes.nbytes > 0
    run, passes = Stream._run, []

    def full(self, count):
        passes.append(count)
        if len(passes) == 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return run(self, count)

    monkeypatch.setattr(Stream, "_run", full)
    assert generate(play, text="Or not") is None
    assert "memory is full after" in play.told[-1]["error"]
    assert play._prefixes.nbytes == 0
    assert len(play.branches.current.generation.steps) == 3


def test_closing_stops_and_gives_back_what_was_held(play):
    generate(play)
    play.panel = "attention"
    play.wait(60)
    assert play.trace is not None
    play.panel = ""
    generate(play)
    begun = threading.Event()
    play.send = lambda content, buffers=None: content["kind"] == "steps" and begun.set()
    play.max_new_tokens = 400
    play.start()
    assert begun.wait(60)
    play.close()
    assert not play.running
    assert play.branches.current.generation.finish_reason == "stopped"
    assert play._prefixes.nbytes == 0
    assert play.trace is play._stream is None
    with pytest.raises(GenerationError, match="this view is closed; make a new one"):
        play.start()
    assert not play.running


def test_the_last_page_that_goes_stops_and_gives_back(play, monkeypatch):
    """`first` was loaded anew as `third`, and never says that it goes; `second` is there."""
    monkeypatch.setattr("workbench.views.shared.generating.ROLL_SECONDS", 0)
    for kind, page in [
        ("hello", "first"), ("hello", "second"), ("here", "first"), ("here", "second"),
        ("hello", "third"), ("here", "second"), ("here", "third"), ("bye", "third"),
    ]:  # fmt: skip
        play._on_message(play, {"kind": kind, "page": page}, [])
    assert [told["kind"] for told in play.told].count("roll") == 3
    generate(play)
    assert play._prefixes.nbytes > 0
    play._on_message(play, {"kind": "bye", "page": "second"}, [])
    assert play._prefixes.nbytes == 0
    assert play.generation.steps


def test_the_last_page_that_goes_while_it_generates_gives_back_too(play):
    play._on_message(play, {"kind": "hello", "page": "one"}, [])
    begin_and_wait_for_tokens(play)
    play._on_message(play, {"kind": "bye", "page": "one"}, [])
    assert play.wait(60).finish_reason == "stopped"
    assert play._prefixes.nbytes == 0
    play._on_message(play, {"kind": "hello", "page": "one"}, [])  # again: caches are kept again
    generate(play, max_new_tokens=2)
    assert play._prefixes.nbytes > 0


def test_a_page_that_has_not_answered_the_roll_yet_is_there(play, monkeypatch):
    for kind, page in [("hello", "first"), ("hello", "second"), ("bye", "second")]:
        play._on_message(play, {"kind": kind, "page": page}, [])
    assert not play._left
    play._on_message(play, {"kind": "here", "page": "first"}, [])
    play._on_message(play, {"kind": "bye", "page": "first"}, [])
    assert play._left
    monkeypatch.setattr("workbench.views.shared.generating.ROLL_SECONDS", 0.2)
    begin_and_wait_for_tokens(play)
    for kind, page in [("hello", "first"), ("hello", "first anew"), ("bye", "first anew")]:
        play._on_message(play, {"kind": kind, "page": page}, [])
    assert play.running
    assert not play._left
    assert play.wait(60).finish_reason == "stopped"  # the first never answered


def test_the_kernels_interrupt_stops_every_widget_that_is_alive(moe, monkeypatch):
    class Kernel:
        saved_sigint_handler = signal.SIG_IGN

    class Shell:
        kernel = Kernel()

    monkeypatch.setattr("workbench.views.shared.generating.get_ipython", Shell)
    one, two = Playground(moe, history=None), Playground(moe, history=None)
    handler = Shell.kernel.saved_sigint_handler
    assert set(handler.views) == {one, two}  # one handler, not a chain of them
    clicked = elsewhere(lambda: Playground(moe, history=None))
    assert clicked in handler.views
    handler(signal.SIGINT, None)
    assert one._stop.is_set()
    assert two._stop.is_set()
    Shell.kernel.saved_sigint_handler = lambda *_: heard.append(True)  # somebody else's
    heard = []
    Playground(moe, history=None)
    Shell.kernel.saved_sigint_handler(signal.SIGINT, None)
    assert heard == [True]


def test_a_text_stopped_before_its_first_token_leaves_the_branch_before_it_on_screen(moe):
    view = Playground(moe, mode="raw", text="To be", max_new_tokens=3)
    view.start()
    before = view.wait(60)
    view._begin(lambda: (view.stop(), view._generate("To be", "slow")))
    view._thread.join(60)
    assert view.generation == before
    assert len(view._shown) == len(before.steps)


def test_a_stream_that_a_cell_left_unfinished_is_not_in_the_way(moe):
    unfinished = moe.stream([1, 45, 99, 7], 6)
    next(unfinished)
    view = Playground(moe, mode="raw", text="To be", max_new_tokens=2)
    view.start()
    assert len(view.wait(60).steps) > 0
    assert len(list(unfinished)) > 0  # and it can go on


def test_a_click_waits_for_the_cell_and_not_for_what_it_left_unfinished(moe):
    unfinished = moe.stream([1, 45, 99, 7], 6)
    next(unfinished)
    view = Playground(moe, mode="raw", text="To be", max_new_tokens=2)
    content, _ = elsewhere(lambda: view.answer({"kind": "generate"}))
    assert content["bad"]
    assert "already generating, in the thread 'MainThread'" in content["text"]
    cell_ended()
    assert elsewhere(lambda: view.answer({"kind": "generate"})) is None
    assert len(view.wait(60).steps) > 0
    assert len(list(unfinished)) > 0  # and it can go on


@pytest.mark.parametrize("kind", ["matrix", "comparison"])
def test_a_click_beside_a_generating_cell_says_why_nothing_happens(kind, moe):
    unfinished = moe.stream([1, 45, 99, 7], 6)
    next(unfinished)
    view = several(kind, moe)
    told = []
    view.send = lambda content, buffers=None: told.append(content)
    elsewhere(lambda: view.answer({"kind": "run" if kind == "matrix" else "generate"}))
    assert "already generating" in told[-1]["error"]
    assert not view.running


def test_only_one_of_two_that_begin_at_once_does(play):
    gate, begun = threading.Event(), []

    def begin(_):
        try:
            play._begin(lambda: gate.wait(60))
            begun.append(True)
        except GenerationError:
            begun.append(False)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    gate.set()
    play._thread.join(60)
    assert sorted(begun) == [False] * 7 + [True]


@pytest.mark.parametrize("kind", ["routing", "attention", "matrix", "comparison"])
def test_a_stream_that_a_cell_left_unfinished_is_in_no_view_s_way(kind, moe):
    unfinished = moe.stream([1, 45, 99, 7], 6)
    next(unfinished)
    if kind == "matrix":
        view = several(kind, moe)
        view.start()
        assert view.wait(60)["error"].tolist() == [""]
    elif kind == "comparison":
        view = several(kind, moe)
        view.start()
        assert view.wait(60) is not None
    else:
        view = (wb.RoutingView if kind == "routing" else wb.AttentionView).live(moe, "To be", 2)
        assert view.wait(60) is not None
    assert len(list(unfinished)) > 0
