"""Generation equals transformers' own, can be repeated, and stops when told: stop and errors."""

import threading

import pytest
import torch

from tests.generation.streams import IDS, endless
from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling


def test_stop_stops_before_the_next_token(moe):
    stop, steps = threading.Event(), []
    for step in moe.stream(IDS, 50, Sampling(temperature=1.0), stop=stop):
        steps.append(step)
        if len(steps) == 4:
            stop.set()
    assert len(steps) == 4
    stop.set()
    assert moe.generate(IDS, 5, stop=stop).finish_reason == "stopped"


def test_stop_ends_a_forward_pass_before_its_next_layer(moe, monkeypatch):
    endless(monkeypatch)
    stop, layers = threading.Event(), []
    stream = moe.stream(IDS, 50, Sampling(1.0), stop=stop, record=True)
    expected = [next(stream) for _ in range(3)]

    def press(*_):
        layers.append(1)
        stop.set()

    handles = [layer.register_forward_hook(press) for layer in moe.model.model.layers]
    assert list(stream) == []
    for handle in handles:
        handle.remove()
    assert len(layers) == 1
    assert stream.generation.steps == tuple(expected)
    assert stream.finish_reason == "stopped"
    assert stream.trace().num_tokens == len(IDS) + 3
    assert not any(module._forward_pre_hooks for module in moe.model.modules())


@pytest.mark.parametrize("during", ["the prompt", "a token"])
def test_an_interruption_leaves_what_was_generated_and_one_can_go_on(during, moe, monkeypatch):
    endless(monkeypatch)
    whole = moe.generate(IDS, 6, Sampling(1.0))
    stream = moe.stream(IDS, 6, Sampling(1.0), record=True)
    seen = [] if during == "the prompt" else [next(stream), next(stream)]

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = moe.model.model.layers[1].mlp.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    handle.remove()
    assert stream.generation.steps == tuple(seen)
    assert stream.generation.finish_reason == "stopped"
    assert [*seen, *stream] == list(whole.steps)
    assert stream.trace().num_tokens == len(IDS) + 6


def test_an_interrupted_generate_carries_what_it_had(moe, monkeypatch):
    endless(monkeypatch)
    calls = []

    def interrupt(*_):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    handle = moe.model.model.norm.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        moe.generate(IDS, 9, Sampling(1.0))
    handle.remove()
    assert caught.value.generation.finish_reason == "stopped"
    assert caught.value.generation.steps == moe.generate(IDS, 3, Sampling(1.0)).steps
    assert "3 tokens had been generated" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_end_of_memory_is_an_error_with_a_way_out(error, moe, monkeypatch):
    endless(monkeypatch)
    stream = moe.stream(IDS, 5, Sampling(1.0))
    first = next(stream)

    def fail(*_):
        raise error

    handle = moe.model.model.layers[2].register_forward_hook(fail)
    with pytest.raises(GenerationError, match=r"memory is full after 8 tokens.*fewer bits"):
        next(stream)
    handle.remove()
    assert stream.generation.steps == (first,)
    assert len(list(stream)) == 4


def test_another_error_is_not_hidden(moe):
    def fail(*_):
        raise RuntimeError("something else")

    handle = moe.model.model.layers[2].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="something else"):
        moe.generate(IDS, 2)
    handle.remove()


@pytest.mark.parametrize("seed", range(6))
def test_a_stop_string_ends_the_answer_and_is_not_shown(seed, moe, monkeypatch):
    endless(monkeypatch)
    sampling = Sampling(1.5, 1.0, 0, seed)
    whole = moe.generate(IDS, 40, sampling)
    text = whole.text.rstrip("\ufffd")
    for length in (1, 3, 8):
        stop_string = text[len(text) // 2 :][:length]
        result = moe.generate(IDS, 40, sampling, stop_strings=["never there", stop_string])
        assert result.text == text.partition(stop_string)[0]
        assert (result.finish_reason, result.stop_string) == ("stop_string", stop_string)
        assert result.token_ids == whole.token_ids[: len(result.token_ids)]
        before = moe.tokenizer.decode(
            result.token_ids[len(IDS) : -1], skip_special=True, starts_text=False
        )
        # It ended with the token that completed it (U+FFFD: a character that was not complete).
        assert stop_string not in before.rstrip("\ufffd")


def test_what_a_stop_string_might_have_begun_is_shown_in_the_end(moe, monkeypatch):
    endless(monkeypatch)
    whole = moe.generate(IDS, 9, Sampling(1.0))
    text, last = whole.text, whole.steps[-1].text
    assert last
    result = moe.generate(IDS, 9, Sampling(1.0), stop_strings=text[-1] + "…")
    assert (result.text, result.finish_reason) == (text, "length")
    stop, stream = threading.Event(), None
    stream = moe.stream(IDS, 20, Sampling(1.0), stop=stop, stop_strings=text[-1] + "…")
    for _ in range(9):
        next(stream)
    stop.set()
    assert list(stream) == []
    assert stream.generation.tail == ""
    assert stream.generation.text == text


def test_a_begun_answer_may_end_with_a_stop_string_and_not_go_on(moe, monkeypatch):
    endless(monkeypatch)
    whole = moe.generate(IDS, 9, Sampling(1.0))
    place = next(place for place, step in enumerate(whole.steps) if step.text.strip())
    stop_string = whole.steps[place].text
    ended = moe.generate(IDS, 9, begun=whole.steps[: place + 1], stop_strings=stop_string)
    assert (ended.finish_reason, len(ended.steps)) == ("stop_string", place + 1)
    with pytest.raises(GenerationError, match=f"at token {place}, and continues"):
        moe.stream(IDS, 9, begun=whole.steps, stop_strings=stop_string)


def test_numbers_that_are_none_are_an_error(tmp_path):
    from tests.helpers.tiny import make_tiny_checkpoint
    from workbench import load

    pangu = load(make_tiny_checkpoint(tmp_path, "PanguEmbedded"), bits=16, device="cpu")
    with torch.no_grad():
        pangu.model.lm_head.weight[5, 3] = float("nan")
    with pytest.raises(GenerationError, match="gives NaN after 7 tokens"):
        pangu.generate(IDS, 2)


def test_a_stream_can_be_stopped_after_its_trace_was_taken(moe, monkeypatch):
    endless(monkeypatch)
    stop = threading.Event()
    stream = moe.stream(IDS, 50, Sampling(1.0), stop=stop, record=[])
    next(stream)
    assert stream.trace().num_tokens == len(IDS) + 1
    stop.set()
    assert list(stream) == []
    assert stream.finish_reason == "stopped"
