"""Settings are checked, plain, and the same again from JSON."""

import json

import pytest

from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_p": 1.5}, r"min_p is 1\.5; expected 0 \(off\) to 1"),
        ({"min_p": "a"}, "min_p is 'a'; expected a number"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; expected more than 0"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty is inf"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": 1e-40}, "0.001 or more"),
        ({"logit_bias": 3}, "logit_bias is 3; expected a mapping or pairs"),
        ({"logit_bias": "ab"}, "logit_bias is 'ab'"),
        ({"logit_bias": ["ab"]}, "logit_bias holds 'ab'"),
        ({"logit_bias": [(1, 2, 3)]}, r"logit_bias holds \(1, 2, 3\)"),
        ({"logit_bias": {"7": 1}}, "a token id of logit_bias is '7'"),
        ({"logit_bias": {-1: 1}}, "logit_bias holds -1: 1; expected an id from 0 on"),
        ({"logit_bias": {7: float("-inf")}}, "-100 bans a token"),
        ({"logit_bias": [(7, 1), (7, 2)]}, "holds token 7 twice"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(GenerationError, match=message):
        Sampling(**settings)


def test_biases_may_be_a_mapping_or_pairs_and_are_kept_sorted():
    expected = ((3, -1.5), (9, 2))
    assert Sampling(logit_bias={9: 2, 3: -1.5}).logit_bias == expected
    assert Sampling(logit_bias=[[9, 2], (3, -1.5)]) == Sampling(logit_bias=expected)
    assert hash(Sampling(logit_bias={9: 2})) == hash(Sampling(logit_bias=[(9, 2)]))


def test_settings_come_back_from_json():
    sampling = Sampling(
        0.3, 0.8, 9, 2**64 - 1, min_p=0.1, repetition_penalty=1.2, logit_bias={4: 1}
    )
    assert Sampling(**json.loads(json.dumps(sampling.as_dict()))) == sampling


def test_greedy_takes_other_settings_as_well():
    assert Sampling.greedy() == Sampling(temperature=0)
    assert Sampling.greedy(repetition_penalty=1.1).repetition_penalty == 1.1
