"""Generation equals transformers' own, can be repeated, and stops when told."""

import threading

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from workbench.errors import GenerationError
from workbench.generation import Sampling

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
    from tests.tiny import make_tiny_checkpoint
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


def test_an_empty_prompt_and_an_empty_wish_are_refused(moe):
    from workbench.errors import TokenizerError

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
