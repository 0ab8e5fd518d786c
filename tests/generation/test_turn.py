"""One thread at a time generates with a model, and no forgotten stream keeps it."""

import threading

import pytest

from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling

IDS = [1, 45, 99, 7, 300, 45, 211]


class Runner(threading.Thread):
    """Generates in another thread until it is told to end."""

    def __init__(self, pangu):
        super().__init__(name="runner")
        self.stop, self.going, self.failure = threading.Event(), threading.Event(), None
        self.stream = pangu.stream(IDS, 400, Sampling(1.0), stop=self.stop)

    def run(self):
        try:
            for _ in self.stream:
                self.going.set()
        except Exception as error:
            self.failure = error
            self.going.set()


@pytest.fixture
def runner(moe, monkeypatch):
    monkeypatch.setattr("workbench.generation.stream.end_ids", lambda _pangu: set())
    thread = Runner(moe)
    yield thread
    thread.stop.set()
    if thread.ident is not None:
        thread.join(60)


def test_a_second_generation_meanwhile_is_refused(moe, runner):
    waiting = moe.stream(IDS, 5)
    runner.start()
    assert runner.going.wait(60)
    assert runner.failure is None
    with pytest.raises(GenerationError, match="already generating, in the thread 'runner'"):
        moe.generate(IDS, 5)
    with pytest.raises(GenerationError, match="already generating"):
        moe.trace(IDS, max_new_tokens=2)
    with pytest.raises(GenerationError, match="already generating"):
        next(waiting)
    runner.stop.set()
    runner.join(60)
    assert runner.stream.finish_reason == "stopped"
    assert len(list(waiting)) == 5


def test_streams_of_one_thread_may_take_turns(moe, runner):
    alone = list(moe.stream(IDS, 6, Sampling(1.0)))
    first, second = (moe.stream(IDS, 6, Sampling(1.0)) for _ in range(2))
    for one, two, expected in zip(first, second, alone, strict=True):
        assert one == two == expected


def test_an_unfinished_stream_of_a_cell_is_in_the_way_until_it_is_closed_or_forgotten(moe, runner):
    unfinished = moe.stream(IDS, 6)
    next(unfinished)
    runner.start()
    assert runner.going.wait(60)
    assert "already generating, in the thread 'MainThread' (1 tokens" in str(runner.failure)
    unfinished.close()
    assert list(unfinished) == []
    kept = [moe.stream(IDS, 6), moe.stream(IDS, 6)]
    next(kept[0])
    moe.turn.ask()  # as a widget does before it starts its thread
    require_free(moe)
    next(kept[1])
    kept.clear()
    require_free(moe)


def require_free(pangu):
    runner = Runner(pangu)
    runner.start()
    assert runner.going.wait(60)
    runner.stop.set()
    runner.join(60)
    assert runner.failure is None


def test_a_thread_that_ended_holds_nothing(moe, runner):
    kept = []
    thread = threading.Thread(target=lambda: kept.append(moe.stream(IDS, 6)) or next(kept[0]))
    thread.start()
    thread.join(60)
    assert kept[0].finish_reason is None
    assert moe.generate(IDS, 2).steps


def test_an_interrupt_at_the_end_of_what_held_the_turn_gives_it_back(moe, runner, monkeypatch):
    class Interrupted:
        """A lock at which the kernel's interrupt arrives."""

        def __enter__(self):
            raise KeyboardInterrupt

        def __exit__(self, *_):
            raise AssertionError("it was never entered")

    with monkeypatch.context() as patch, moe.turn.held():
        patch.setattr(moe.turn, "_lock", Interrupted())
    runner.start()
    assert runner.going.wait(60)
    assert runner.failure is None
