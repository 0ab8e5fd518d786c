"""Generation equals transformers' own, can be repeated, and stops when told."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.helpers.fake_server import fake_server
from workbench import connect
from workbench.errors import GenerationError, TokenizerError, TraceError
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation, Step

IDS = [1, 45, 99, 7, 300, 45, 211]


@pytest.mark.parametrize("which", ["moe", "dense"])
def test_greedy_equals_generate_of_transformers(which, request):
    pangu = request.getfixturevalue(which)
    ids = torch.tensor([IDS])
    expected = pangu.model.generate(
        ids,
        max_new_tokens=12,
        do_sample=False,
        attention_mask=torch.ones_like(ids),
        eos_token_id=pangu.tokenizer.eos_token_id,
    )
    ours = pangu.generate(IDS, 12, Sampling(temperature=0))
    assert list(ours.token_ids) == expected[0].tolist()
    assert ours.finish_reason in ("length", "eos")


def test_the_same_seed_gives_the_same_text_and_another_seed_another(moe):
    texts = [moe.generate(IDS, 12, Sampling(1.5, 1.0, 0, seed)).token_ids for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


def test_tokens_are_drawn_from_the_warped_distribution(dense):
    sampling = Sampling(temperature=1.3, top_p=0.7, top_k=5)
    with torch.inference_mode():
        logits = dense.model(torch.tensor([IDS])).logits[:, -1]
    warpers = [TemperatureLogitsWarper(1.3), TopKLogitsWarper(5), TopPLogitsWarper(0.7)]
    kept = LogitsProcessorList(warpers)(torch.tensor([IDS]), logits).softmax(-1)[0]
    draws = 300
    counts = torch.zeros_like(kept)
    for seed in range(draws):
        step = next(dense.stream(IDS, 1, Sampling(1.3, 0.7, 5, seed)))
        counts[step.token_id] += 1
    assert counts[kept == 0].sum() == 0
    assert (counts / draws - kept).abs().sum() / 2 < 0.12  # total variation
    step = next(dense.stream(IDS, 1, sampling))
    logprobs = logits[0].log_softmax(-1)
    for other in step.alternatives:
        assert other.logprob == pytest.approx(float(logprobs[other.token_id]), abs=1e-4)
        assert other.kept == bool(kept[other.token_id] > 0)
    assert step.logprob == pytest.approx(float(logprobs[step.token_id]), abs=1e-4)


def test_stop_stops_before_the_next_token(moe):
    stop, steps = threading.Event(), []
    for step in moe.stream(IDS, 50, Sampling(temperature=1.0), stop=stop):
        steps.append(step)
        if len(steps) == 4:
            stop.set()
    assert len(steps) == 4
    stop.set()
    assert moe.generate(IDS, 5, stop=stop).finish_reason == "stopped"


def test_the_streamed_text_is_the_decoded_text(moe):
    for seed in range(5):
        result = moe.generate(IDS, 40, Sampling(1.5, 1.0, 0, seed))
        new = list(result.token_ids[len(IDS) :])
        decoded = moe.tokenizer.decode(new, skip_special=True, starts_text=False)
        assert decoded.startswith(result.text)
        assert decoded[len(result.text) :].strip("\ufffd") == ""


def test_a_full_context_ends_the_generation(tmp_path):
    from tests.helpers.tiny import make_tiny_checkpoint
    from workbench import load

    folder = make_tiny_checkpoint(tmp_path, "PanguEmbedded", max_position_embeddings=10)
    pangu = load(folder, bits=16, device="cpu")
    result = pangu.generate(IDS, 50, Sampling(temperature=0))
    assert len(result.token_ids) <= 10
    assert result.finish_reason in ("context", "eos")
    with pytest.raises(GenerationError, match="context is 10"):
        pangu.generate([1] * 10, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.1}, r"top_p is 1\.1"),
        ({"top_k": -2}, "top_k is -2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(GenerationError, match=message):
        Sampling(**settings)


@pytest.mark.parametrize("prompt", ["To be", IDS, [{"role": "user", "content": "To be"}]])
def test_another_way_of_thinking_is_refused_for_every_prompt(prompt, moe):
    with pytest.raises(TokenizerError, match="thinking is 'medium'; expected one of"):
        moe.generate(prompt, 2, thinking="medium")
    with fake_server() as server, pytest.raises(TokenizerError, match="thinking is 'medium'"):
        connect(server.url).generate(prompt, 2, thinking="medium")


def test_an_empty_prompt_and_an_empty_wish_are_refused(moe):
    with pytest.raises(GenerationError, match="max_new_tokens is 0"):
        moe.generate(IDS, 0)
    with pytest.raises(TokenizerError, match="empty"):
        moe.generate([], 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": "a"}, "temperature is 'a'; expected a number"),
        ({"top_p": None}, "top_p is None; expected a number"),
        ({"top_k": 1.5}, r"top_k is 1\.5; expected a whole number"),
        ({"seed": "3"}, "seed is '3'; expected a whole number"),
        ({"seed": 2**70}, "seed is 1180591620717411303424; expected"),
        ({"seed": -(2**63) - 1}, "expected -2.63 to 2.64"),
    ],
)
def test_settings_of_another_kind_are_refused(settings, message):
    with pytest.raises(GenerationError, match=message):
        Sampling(**settings)


def test_numbers_of_numpy_are_settings_as_well(moe, tmp_path):
    sampling = Sampling(np.float32(0.5), np.float64(0.5), np.int64(7), np.int32(3))
    assert sampling == Sampling(0.5, 0.5, 7, 3)
    trace = moe.trace(IDS, np.int64(2), sampling=sampling)
    assert trace.meta["sampling"] == sampling.as_dict()
    trace.save(tmp_path / "a.trace")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": None}, "max_new_tokens is None"),
        ({"max_new_tokens": "5"}, "max_new_tokens is '5'"),
        ({"max_new_tokens": 2.5}, r"max_new_tokens is 2\.5"),
        ({"alternatives": -1}, "alternatives is -1"),
        ({"alternatives": 1.5}, r"alternatives is 1\.5"),
        ({"sampling": "a"}, "sampling is 'a'"),
    ],
)
def test_wishes_of_another_kind_are_refused_before_the_first_token(settings, message, moe):
    with pytest.raises(GenerationError, match=message):
        moe.stream(IDS, **settings)


def test_the_ends_of_the_range_of_seeds_can_be_used(moe):
    for seed in (-(2**63), 2**64 - 1):
        assert moe.generate(IDS, 1, Sampling(1.0, seed=seed)).steps
    assert [len(step.alternatives) for step in moe.stream(IDS, 2, alternatives=0)] == [0, 0]


def endless(monkeypatch):
    monkeypatch.setattr("workbench.generation.stream.end_ids", lambda _pangu: set())


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
    assert "3 tokens were generated" in caught.value.__notes__[0]


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


def test_in_the_end_every_token_has_its_own_text_whatever_was_held_back(moe, monkeypatch):
    endless(monkeypatch)
    whole = moe.generate(IDS, 40, Sampling(1.0))
    texts = [step.text for step in whole.steps]
    early = next(n for n in range(20) if texts[n] and texts[n + 1])
    place = next(
        n for n in range(early + 2, 38) if texts[n] and texts[n + 1]
        and texts[n][-1] + texts[n + 1][0] not in "".join(texts[: n + 1])
    )  # fmt: skip
    stop_string = texts[place][-1] + texts[place + 1][0]
    held = texts[early][-1] + "…"  # held back until the next token, and no stop string then
    stream = moe.stream(IDS, 40, Sampling(1.0), stop_strings=[held, stop_string])
    told = list(stream)
    steps, given = stream.generation.steps, "".join(step.text for step in told)
    assert [step.text for step in steps[:place]] == texts[:place]
    assert [step.text + step.cut for step in steps] == texts[: place + 2]
    assert (steps[place].text, steps[place].cut) == (texts[place][:-1], texts[place][-1])
    assert (steps[-1].text, steps[-1].cut) == ("", texts[place + 1])
    assert stream.generation.text == given == "".join(step.text for step in steps)
    assert [step.text for step in told[:place]] != texts[:place]  # some came late
    again = moe.generate(IDS, 1, begun=steps).steps[: place + 2]
    assert [(step.text, step.cut) for step in again] == [(text, "") for text in texts[: place + 2]]


def test_a_begun_answer_may_end_with_a_stop_string_and_not_go_on(moe, monkeypatch):
    endless(monkeypatch)
    whole = moe.generate(IDS, 9, Sampling(1.0))
    place = next(place for place, step in enumerate(whole.steps) if step.text.strip())
    stop_string = whole.steps[place].text
    ended = moe.generate(IDS, 9, begun=whole.steps[: place + 1], stop_strings=stop_string)
    assert (ended.finish_reason, len(ended.steps)) == ("stop_string", place + 1)
    with pytest.raises(GenerationError, match=f"at token {place}, and goes on"):
        moe.stream(IDS, 9, begun=whole.steps, stop_strings=stop_string)


def test_alternatives_tell_what_was_before_and_after_the_filters(dense):
    with torch.inference_mode():
        logits = dense.model(torch.tensor([IDS])).logits[0, -1].double()
    rare = int(logits.argsort()[20])
    sampling = Sampling(
        1.3,
        0.9,
        30,
        min_p=0.01,
        repetition_penalty=1.3,
        logit_bias={rare: float(logits.max() - logits[rare]) + 3},
    )
    (step,) = dense.stream(IDS, 1, sampling, alternatives=5)
    others = {other.token_id: other for other in step.alternatives}
    logprobs = logits.log_softmax(-1)
    assert [other.token_id for other in step.alternatives[:5]] == logprobs.topk(5).indices.tolist()
    assert rare in others
    assert step.token_id in others
    for token, other in others.items():
        assert other.logprob == pytest.approx(float(logprobs[token]), abs=1e-4)
        assert other.kept == (other.drawn_logprob > -np.inf)
    assert others[rare].drawn_logprob == max(other.drawn_logprob for other in step.alternatives)
    assert step.drawn_logprob == others[step.token_id].drawn_logprob
    bits = -float((logprobs.exp() * logprobs).sum()) / np.log(2)
    assert step.entropy_bits == pytest.approx(bits, abs=1e-4)
    assert step.seconds > 0


def test_repetition_penalty_counts_the_prompt_as_transformers_does(moe):
    ids, texts = torch.tensor([IDS]), []
    for penalty in (1.8, 0.2):  # less than 1 asks for repetition
        expected = moe.model.generate(
            ids, max_new_tokens=15, do_sample=False, repetition_penalty=penalty,
            attention_mask=torch.ones_like(ids), eos_token_id=moe.tokenizer.eos_token_id,
        )  # fmt: skip
        texts.append(expected[0].tolist())
        sampling = Sampling.greedy(repetition_penalty=penalty)
        assert list(moe.generate(IDS, 15, sampling).token_ids) == texts[-1]
    assert texts[0] != texts[1]


def test_a_banned_token_never_comes_and_one_outside_the_vocabulary_is_refused(moe):
    first = moe.generate(IDS, 1, Sampling.greedy()).steps[0].token_id
    result = moe.generate(IDS, 8, Sampling.greedy(logit_bias={first: -100}))
    assert first not in [step.token_id for step in result.steps]
    size = moe.config.vocab_size
    with pytest.raises(GenerationError, match=f"token {size}, which is outside"):
        moe.stream(IDS, 1, Sampling(logit_bias={size: 1}))


def test_thinking_and_answer_are_told_by_token(moe):
    tokenizer = moe.tokenizer
    inner = [tokenizer.thinking_start_id, 45, 99, tokenizer.thinking_end_id, 300]
    steps = moe.generate(IDS, 1, begun=inner).steps
    assert [step.span for step in steps[:5]] == ["thinking"] * 4 + ["answer"]
    spans = tokenizer.spans(IDS + [step.token_id for step in steps], len(IDS))
    assert [span["kind"] for span in spans] == ["prompt", "thinking", "answer"]


def test_a_stream_tells_context_and_cache(moe, monkeypatch):
    endless(monkeypatch)
    stream = moe.stream(IDS, 4, Sampling(1.0))
    assert stream.cache_bytes == 0
    list(stream)
    assert len(stream.token_ids) == len(IDS) + 4
    assert stream.cache_bytes == 2 * 3 * 2 * 32 * 4 * (len(IDS) + 3)  # the last one did not run


def test_a_trace_of_a_stream_equals_that_of_its_tokens_but_for_rounding(moe, monkeypatch):
    from workbench.tracing.capture import trace_generation

    endless(monkeypatch)
    stream = moe.stream(IDS, 5, Sampling(1.0), record=[1])
    list(stream)
    live, read = stream.trace(), trace_generation(moe, stream.generation, attention=[1])
    assert live.meta == read.meta
    assert live.meta["sampling"] == Sampling(1.0).as_dict()
    assert sorted(live.arrays) == sorted(read.arrays)
    for name, array in read.arrays.items():
        np.testing.assert_allclose(live.arrays[name], array, rtol=1e-3, atol=1e-4)
    with pytest.raises(TraceError, match="was not recorded"):
        moe.stream(IDS).trace()
    stop = threading.Event()
    stop.set()
    with pytest.raises(GenerationError, match="stopped"):
        trace_generation(moe, stream.generation, stop)


def test_numbers_that_are_none_are_an_error(tmp_path):
    from tests.helpers.tiny import make_tiny_checkpoint
    from workbench import load

    pangu = load(make_tiny_checkpoint(tmp_path, "PanguEmbedded"), bits=16, device="cpu")
    with torch.no_grad():
        pangu.model.lm_head.weight[5, 3] = float("nan")
    with pytest.raises(GenerationError, match="gives NaN after 7 tokens"):
        pangu.generate(IDS, 2)


def test_an_answer_that_ends_inside_a_character_says_so(moe, monkeypatch):
    endless(monkeypatch)
    tokenizer = moe.tokenizer
    three = tokenizer.encode("龘", add_bos=False)[-3:]
    assert [tokenizer.pieces([token])[0][:3] for token in three] == ["<0x"] * 3
    sure = Sampling.greedy(logit_bias={three[1]: 1000.0})
    cut = moe.generate(IDS, 1, sure, begun=three[:1])
    assert cut.text == cut.answer == cut.steps[-1].text == "\ufffd"
    stream = moe.stream(IDS, 5, sure, begun=three[:1])
    assert next(stream).text == ""
    stream.close()
    assert (stream.generation.text, stream.generation.tail) == ("\ufffd", "\ufffd")
    whole = moe.generate(IDS, 1, Sampling.greedy(logit_bias={three[2]: 1000.0}), begun=cut.steps)
    assert (whole.text, whole.tail) == ("龘", "")
    assert moe.generate(IDS, 1, sure, begun=three[:1], stop_strings="\ufffd").text == ""


def test_a_stream_can_be_stopped_after_its_trace_was_taken(moe, monkeypatch):
    endless(monkeypatch)
    stop = threading.Event()
    stream = moe.stream(IDS, 50, Sampling(1.0), stop=stop, record=[])
    next(stream)
    assert stream.trace().num_tokens == len(IDS) + 1
    stop.set()
    assert list(stream) == []
    assert stream.finish_reason == "stopped"


def test_a_generation_shows_itself_in_a_line_and_prints_thinking_apart(moe):
    generation = moe.generate("To be", 3, begun=moe.encode("Hm")[1:])
    line = repr(generation)
    facts = f"{moe.name!r}, {len(generation.steps)} tokens, {generation.finish_reason}"
    assert line.startswith(f"Generation({facts}: ")
    assert "\n" not in line
    assert str(generation) == generation.text
    spans = ("thinking", " = 7."), ("answer", "72")
    steps = tuple(Step(1, text, text, -0.5, (), span) for span, text in spans)
    answered = Generation((1, 1), 0, steps, "eos")
    assert str(answered) == "thinking: = 7.\nanswer: 72"
    assert answered.text == " = 7.72"
    assert repr(answered) == "Generation(2 tokens, eos: ' = 7.72')"
    assert str(replace(answered, steps=steps[:1])) == "thinking: = 7."
    assert len(repr(replace(answered, steps=steps * 500))) < 120
