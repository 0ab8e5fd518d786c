"""Generation equals transformers' own, can be repeated, and stops when told: requests."""

import numpy as np
import pytest

from tests.generation.streams import IDS
from tests.helpers.fake_server import fake_server
from workbench import connect
from workbench.errors import GenerationError, TokenizerError
from workbench.generation.sampling import Sampling


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


def test_a_banned_token_never_comes_and_one_outside_the_vocabulary_is_refused(moe):
    first = moe.generate(IDS, 1, Sampling.greedy()).steps[0].token_id
    result = moe.generate(IDS, 8, Sampling.greedy(logit_bias={first: -100}))
    assert first not in [step.token_id for step in result.steps]
    size = moe.config.vocab_size
    with pytest.raises(GenerationError, match=f"token {size}, which is outside"):
        moe.stream(IDS, 1, Sampling(logit_bias={size: 1}))
