"""Generation equals transformers' own, can be repeated, and stops when told: generation."""

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

from tests.generation.streams import IDS, endless
from workbench.errors import GenerationError, TraceError
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation, Step


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
