"""A branch equals a fresh run of its text, bit for bit, and its start is not computed again."""

import threading

import numpy as np
import pytest

from tests.helpers.tiny import make_tiny_checkpoint
from workbench import load
from workbench.errors import GenerationError
from workbench.generation.prefixes import Prefixes
from workbench.generation.sampling import Sampling
from workbench.generation.stream import end_ids

IDS = [1, 45, 99, 7, 300, 45, 211]
WILD = Sampling(1.5, 1.0, 0, seed=2)


@pytest.fixture
def passes(monkeypatch):
    """Token counts of all forward passes, and models that never end their turn."""
    monkeypatch.setattr("workbench.generation.stream.end_ids", lambda _pangu: set())
    counts = []

    def listen(pangu):
        def heard(_module, _args, kwargs):
            counts.append(kwargs["input_ids"].shape[1])

        return pangu.model.model.register_forward_pre_hook(heard, with_kwargs=True)

    handles = []
    yield lambda pangu: handles.append(listen(pangu)) or counts
    for handle in handles:
        handle.remove()


@pytest.fixture(scope="module", params=["moe", "dense", "moe from disk", "moe in 4 bit"])
def pangu(request):
    which, _, how = request.param.partition(" ")
    if not how:
        return request.getfixturevalue(which)
    folder = request.getfixturevalue(f"tiny_{which}")
    if how == "in 4 bit":
        return load(folder, bits=4, device="cpu")
    return load(folder, bits=16, device="cpu", memory="4MB")


@pytest.mark.parametrize("place", [0, 1, 6, 11])
def test_a_branch_equals_a_fresh_run(place, pangu, passes):
    counts, prefixes = passes(pangu), Prefixes(pangu)
    trunk = pangu.generate(IDS, 12, WILD, prefixes=prefixes)
    step = trunk.steps[place]
    other = next(a.token_id for a in step.alternatives if a.token_id != step.token_id)
    begun = trunk.begun(place, other)
    del counts[:]
    branch = pangu.generate(IDS, 8, WILD, begun=begun, prefixes=prefixes)
    assert counts == [1] * 8  # the start is shared: the first pass runs the other token
    fresh = pangu.generate(IDS, 8, WILD, begun=[item.token_id for item in begun])
    assert branch == fresh
    assert branch.token_ids[: len(IDS) + place + 1] == (*trunk.token_ids[: len(IDS) + place], other)
    assert len(branch.steps) == place + 1 + 8


def test_going_on_where_it_ended_equals_never_having_stopped(pangu, passes):
    counts, prefixes = passes(pangu), Prefixes(pangu)
    whole = pangu.generate(IDS, 14, WILD)
    part = pangu.generate(IDS, 5, WILD, prefixes=prefixes)
    del counts[:]
    rest = pangu.generate(IDS, 9, WILD, begun=part.steps, prefixes=prefixes)
    assert counts == [1] * 9
    assert rest == whole


def test_another_seed_reads_no_prompt_again(pangu, passes):
    counts, prefixes = passes(pangu), Prefixes(pangu)
    pangu.generate(IDS, 6, WILD, prefixes=prefixes)
    del counts[:]
    other = pangu.generate(IDS, 6, Sampling(1.5, 1.0, 0, seed=9), prefixes=prefixes)
    assert max(counts) == 1
    assert other == pangu.generate(IDS, 6, Sampling(1.5, 1.0, 0, seed=9))


def test_stop_computes_nothing_even_where_all_is_kept(moe, passes):
    counts, prefixes, stop = passes(moe), Prefixes(moe), threading.Event()
    moe.generate(IDS, 6, WILD, prefixes=prefixes)
    del counts[:]
    stop.set()
    result = moe.generate(IDS, 6, WILD, prefixes=prefixes, stop=stop)
    assert (result.steps, result.finish_reason, counts) == ((), "stopped", [])


def test_a_prompt_that_differs_is_read_as_a_whole(moe, passes):
    counts, prefixes = passes(moe), Prefixes(moe)
    moe.generate(IDS, 3, WILD, prefixes=prefixes)
    for prompt in (IDS[:-1], [*IDS, 5]):
        del counts[:]
        result = moe.generate(prompt, 2, WILD, prefixes=prefixes)
        assert counts[0] == len(prompt)
        assert result == moe.generate(prompt, 2, WILD)


def test_a_recorded_branch_has_the_trace_of_a_fresh_run(moe, passes):
    counts, prefixes = passes(moe), Prefixes(moe)
    trunk = moe.generate(IDS, 6, WILD, prefixes=prefixes, record=True)
    del counts[:]
    begun = trunk.begun(4, 17)
    first = moe.stream(IDS, 3, WILD, begun=begun, prefixes=prefixes, record=True)
    list(first)
    assert max(counts) == 1
    second = moe.stream(IDS, 3, WILD, begun=begun, record=True)
    list(second)
    one, two = first.trace(), second.trace()
    assert one.num_tokens == len(IDS) + 5 + 3
    for name, array in two.arrays.items():
        np.testing.assert_array_equal(one.arrays[name], array, err_msg=name)


def test_what_was_not_recorded_is_run_again_for_a_recording(moe, passes):
    counts, prefixes = passes(moe), Prefixes(moe)
    moe.generate(IDS, 6, WILD, prefixes=prefixes)
    del counts[:]
    moe.generate(IDS, 6, WILD, prefixes=prefixes, record=[1])
    assert counts[0] == len(IDS)
    moe.generate(IDS, 6, WILD, prefixes=prefixes, record=[0, 1])
    assert counts[6] == len(IDS)
    assert moe.generate(IDS, 6, WILD, prefixes=prefixes) == moe.generate(IDS, 6, WILD)


def test_memory_is_bounded_and_what_was_used_longest_ago_goes_first(moe, passes):
    counts = passes(moe)
    prefixes = Prefixes(moe)
    assert prefixes.nbytes == 0
    moe.generate(IDS, 5, WILD, prefixes=prefixes)
    one = prefixes.nbytes
    assert one == 2 * 3 * 2 * 32 * 4 * (len(IDS) + 4) + 4 * moe.config.vocab_size
    prefixes = Prefixes(moe, max_bytes=2 * one)
    others = [[*IDS[:-1], last] for last in (11, 12, 13)]
    for prompt in others[:2]:
        moe.generate(prompt, 5, WILD, prefixes=prefixes)
    moe.generate(others[0], 5, WILD, prefixes=prefixes)
    moe.generate(others[2], 5, WILD, prefixes=prefixes)
    assert len(prefixes) == 2
    assert prefixes.nbytes <= prefixes.max_bytes
    del counts[:]
    moe.generate(others[0], 5, WILD, prefixes=prefixes)
    assert max(counts) == 1
    moe.generate(others[1], 5, WILD, prefixes=prefixes)
    assert max(counts) == len(IDS)
    prefixes.clear()
    assert (len(prefixes), prefixes.nbytes) == (0, 0)
    small = Prefixes(moe, max_bytes=one - 1)
    moe.generate(IDS, 5, WILD, prefixes=small)
    assert len(small) == 0


def test_a_longer_answer_takes_the_place_of_its_start(moe, passes):
    passes(moe)
    prefixes = Prefixes(moe)
    start = moe.generate(IDS, 5, WILD, prefixes=prefixes)
    moe.generate(IDS, 5, WILD, begun=start.steps, prefixes=prefixes)
    assert len(prefixes) == 1
    moe.generate(IDS, 2, WILD, prefixes=prefixes)
    assert len(prefixes) == 1


def test_caches_of_another_model_are_refused(moe, dense):
    with pytest.raises(GenerationError, match="belong to another model"):
        moe.stream(IDS, prefixes=Prefixes(dense))
    with pytest.raises(GenerationError, match="max_bytes is -1"):
        Prefixes(moe, -1)


def test_a_branch_that_ends_the_turn_is_finished(moe):
    trunk = moe.generate(IDS, 5, Sampling(1.5, 1.0, 0, seed=2))
    end = next(iter(end_ids(moe)))
    stream = moe.stream(IDS, 5, begun=trunk.begun(2, end), record=True)
    assert list(stream) == []
    ended = stream.generation
    assert ended.finish_reason == "eos"
    assert stream.trace().num_tokens == len(IDS) + 3
    assert [step.token_id for step in ended.steps] == [
        *(step.token_id for step in trunk.steps[:2]), end
    ]  # fmt: skip


def test_a_begun_answer_fills_the_context_at_most(tmp_path, passes):
    folder = make_tiny_checkpoint(tmp_path, "PanguEmbedded", max_position_embeddings=10)
    pangu = load(folder, bits=16, device="cpu")
    passes(pangu)
    assert pangu.generate(IDS, 5, begun=[7, 8]).finish_reason == "context"
    full = pangu.generate(IDS, 5, begun=[7, 8, 9])
    assert (full.finish_reason, len(full.steps)) == ("context", 3)
    with pytest.raises(GenerationError, match="11 tokens and the model's context is 10"):
        pangu.stream(IDS, 5, begun=[7, 8, 9, 10])


@pytest.mark.parametrize(
    ("begun", "message"),
    [
        (["a"], "an item of begun is 'a'"),
        ("ab", "begun is 'ab'"),
        ([-1], "token -1"),
        (5, "begun is 5"),
    ],
)
def test_a_begun_answer_of_another_kind_is_refused(begun, message, moe):
    with pytest.raises(GenerationError, match=message):
        moe.stream(IDS, begun=begun)
