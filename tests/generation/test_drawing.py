"""Tokens are drawn as an independent implementation of the filters draws them."""

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from workbench.generation.drawing import Drawer
from workbench.generation.sampling import Sampling

SETTINGS = [
    {},
    {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
    {"temperature": 1.7, "top_p": 0.8, "top_k": 0},
    {"temperature": 0.9, "top_p": 1.0, "top_k": 7},
    {"temperature": 1.2, "top_p": 1.0, "top_k": 0, "min_p": 0.05},
    {"temperature": 1.5, "top_p": 0.9, "top_k": 40, "min_p": 0.02},
    {"temperature": 1.0, "repetition_penalty": 1.4},
    {"temperature": 1.0, "repetition_penalty": 0.8, "top_k": 0, "top_p": 1.0},
    {"temperature": 1.0, "logit_bias": {3: 4.0, 17: -100.0, 250: 2.5}, "top_p": 0.7},
    {"temperature": 0.8, "logit_bias": {9: 3.0}, "repetition_penalty": 1.2, "min_p": 0.01},
    {"temperature": 0.0, "logit_bias": {9: 30.0}, "repetition_penalty": 1.2},
    {"temperature": 0.0},
]


def numpy_draw(logits, seen, sampling, place):
    """The filters written again, in NumPy: the kept ids, their probabilities, and the token."""
    scores = logits.astype(np.float32).copy()
    for token, bias in sampling.logit_bias:
        scores[token] += np.float32(bias)
    if sampling.repetition_penalty != 1:
        for token in set(seen):
            penalty = np.float32(sampling.repetition_penalty)
            scores[token] = (
                scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
            )
    if sampling.temperature == 0:
        token = int(scores.argmax())
        return [token], np.ones(1), token
    scores = scores.astype(np.float64) / sampling.temperature
    order = np.argsort(-scores, kind="stable")  # of equal ones the lower id first
    order = order[: sampling.top_k] if sampling.top_k else order
    weights = np.exp(scores[order] - scores[order[0]])
    share = weights / weights.sum()
    before = share.cumsum() - share  # of all that are more probable
    order = [token for token, least in zip(order, before, strict=True) if least < sampling.top_p]
    order = [token for token in order if np.exp(scores[token] - scores[order[0]]) >= sampling.min_p]
    kept = np.sort(order)
    probabilities = np.exp(scores[kept] - scores[order[0]])
    probabilities /= probabilities.sum()
    random = np.random.Philox(key=sampling.seed, counter=place).random_raw()
    number = int(random) // 2**11 / 2**53
    sums = [probabilities[: count + 1].sum() for count in range(len(kept))]
    token = next(token for token, total in zip(kept, sums, strict=True) if total > number)
    return kept.tolist(), probabilities, int(token)


@pytest.mark.parametrize("rounded", [False, True], ids=["float32", "equal ones"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_draw_equals_the_filters_written_in_numpy(settings, rounded):
    random = np.random.default_rng(5)
    for place in range(40):
        sampling = Sampling(**settings, seed=place % 3)
        logits = (random.standard_normal(311) * 3).astype(np.float32)
        if rounded:  # coarser than bfloat16, so that many of so few are equal
            logits = torch.tensor(logits).mul(4).round().div(4).bfloat16().float().numpy()
        seen = random.integers(0, 311, 23).tolist()
        drawer = Drawer(sampling)
        scores = drawer.adjusted(torch.tensor(logits)[None], seen)
        drawn = drawer.draw(scores, place)
        kept, probabilities, token = numpy_draw(logits, seen, sampling, place)
        assert drawn.token_id == token
        assert drawn.kept_ids.tolist() == kept
        np.testing.assert_allclose(np.exp(drawn.kept_logprobs), probabilities, rtol=1e-5)
        assert drawn.logprob(token) == pytest.approx(
            np.log(probabilities[kept.index(token)]), abs=1e-5
        )
        gone = next(other for other in range(311) if other not in kept) if len(kept) < 311 else None
        assert gone is None or drawn.logprob(gone) == -np.inf


@pytest.mark.parametrize("settings", SETTINGS[:-2], ids=str)
def test_what_is_kept_is_what_transformers_keeps_of_the_whole_vocabulary(settings):
    sampling = Sampling(**settings)
    whole = LogitsProcessorList()
    if sampling.logit_bias:
        whole.append(SequenceBiasLogitsProcessor({(t,): b for t, b in sampling.logit_bias}))
    if sampling.repetition_penalty != 1:
        whole.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature != 1:
        whole.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        whole.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        whole.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        whole.append(MinPLogitsWarper(sampling.min_p))
    generator = torch.Generator().manual_seed(1)
    drawer = Drawer(sampling)
    for _ in range(40):
        logits = torch.randn(1, 1031, generator=generator) * 4
        seen = torch.randint(0, 1031, (1, 50), generator=generator)
        expected = whole(seen, logits.clone())[0].log_softmax(-1)
        drawn = drawer.draw(drawer.adjusted(logits, seen[0].tolist()), 0)
        assert drawn.kept_ids.tolist() == expected.isfinite().nonzero()[:, 0].tolist()
        np.testing.assert_allclose(
            drawn.kept_logprobs, expected[torch.tensor(drawn.kept_ids)], atol=1e-4
        )


def test_draws_follow_the_probabilities():
    sampling_of = [Sampling(1.0, 1.0, 0, seed) for seed in range(40)]
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.5]])
    counts = np.zeros(5)
    for sampling in sampling_of:
        drawer = Drawer(sampling)
        for place in range(50):
            counts[drawer.draw(logits, place).token_id] += 1
    expected = logits[0].softmax(-1).numpy()
    assert abs(counts / counts.sum() - expected).max() < 0.03  # five standard deviations


def test_a_random_number_depends_on_seed_and_place_alone():
    numbers = [
        Sampling(seed=seed).uniform(place) for seed in (0, 1, -1, 2**63) for place in range(50)
    ]
    assert len(set(numbers)) == 200
    assert all(0 <= number < 1 for number in numbers)
    assert 0.4 < np.mean(numbers) < 0.6
    assert Sampling(0.1, seed=1).uniform(3) == Sampling(1.9, 0.5, 3, 1).uniform(3) == numbers[53]


def test_of_equal_largest_logits_the_first_is_the_greedy_one():
    logits = torch.tensor([[0.0, 7.0, 7.0, 1.0]])
    assert Drawer(Sampling.greedy()).draw(logits, 0).token_id == 1
