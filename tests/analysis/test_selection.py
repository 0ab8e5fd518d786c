"""Which tokens are looked at, and what is said when they cannot be."""

import numpy as np
import pytest

import workbench as wb
from tests.helpers.traces import handmade, random_traces, routed
from workbench.errors import TraceError

SPANS = [
    {"kind": "prompt", "start": 0, "end": 3},
    {"kind": "thinking", "start": 3, "end": 5},
    {"kind": "answer", "start": 5, "end": 9},
]


@pytest.fixture
def trace():
    logits = np.random.default_rng(0).normal(size=(2, 9, 6))
    return handmade(logits, 2, prompt_length=4, spans=SPANS)


@pytest.mark.parametrize(
    ("where", "tokens"),
    [
        (None, range(9)),
        ("prompt", range(3)),
        ("thinking", [3, 4]),
        ("answer", range(5, 9)),
        ("prefill", range(4)),
        ("decode", range(4, 9)),
        ("thinking+decode", [4]),
        (lambda trace: trace.token_ids > 6, [7, 8]),
        (np.arange(9) == 2, [2]),
    ],
)
def test_words_arrays_and_functions_choose_tokens(trace, where, tokens):
    assert np.flatnonzero(wb.token_mask(trace, where)).tolist() == list(tokens)
    frame = wb.router_entropy(trace, where=where)
    assert frame.loc[frame["layer"] == 1, "token"].tolist() == list(tokens)


@pytest.mark.parametrize("where", ["reply", "prompt,answer", np.ones(4, bool), np.arange(9)])
def test_other_choices_are_refused(trace, where):
    with pytest.raises(TraceError, match=r"where (is|gave)"):
        wb.expert_load(trace, where=where)


def test_an_empty_choice_is_refused(trace):
    with pytest.raises(TraceError, match="matches none of the 9"):
        wb.expert_load(trace, where=np.zeros(9, bool))


def test_what_is_no_trace_and_what_does_not_fit_together_is_refused(trace):
    with pytest.raises(TraceError, match="an empty sequence was given"):
        wb.expert_load([])
    with pytest.raises(TraceError, match="expected a trace"):
        wb.expert_load(["hamlet"])
    with pytest.raises(TraceError, match="different models"):
        wb.expert_load([trace, random_traces(0, [5])[0]])
    with pytest.raises(TraceError, match=r"labels of 0 kinds.*labels="):
        wb.domain_specialisation([trace, trace])
    ids = np.arange(9) + (np.arange(9) >= 2)
    with pytest.raises(TraceError, match="differ from token 2"):
        wb.routing_agreement(trace, handmade(np.zeros((2, 9, 6)), 2, ids))
    with pytest.raises(TraceError, match="pairs is 'ranks'"):
        wb.expert_transitions(trace, "ranks")
    with pytest.raises(TraceError, match="no expert 6 of layer 0"):
        wb.expert_vocabulary(trace, 0, 6)
    with pytest.raises(TraceError, match="over 4 devices"):
        wb.imbalance_score(trace, devices=4)


def test_numbers_of_permutations_and_layers_that_allow_no_result_are_refused(trace):
    pair = random_traces(0, [20, 20])
    for wrong in (0, -1, 0.5):
        with pytest.raises(TraceError, match=rf"permutations is {wrong}; expected 1 or more"):
            wb.domain_divergence(pair, ["a", "b"], permutations=wrong)
        with pytest.raises(TraceError, match=rf"permutations is {wrong}; expected 1 or more"):
            wb.expert_preference(trace, "prompt", permutations=wrong)
    one_layer = handmade(np.random.default_rng(0).normal(size=(1, 9, 6)), 2)
    for layer in (None, 0):
        with pytest.raises(TraceError, match="only one layer with experts"):
            wb.expert_transitions(one_layer, layer=layer)


def test_a_dense_trace_says_that_it_has_no_experts(dense):
    with pytest.raises(TraceError, match="dense model without experts"):
        wb.expert_load(dense.trace([1, 45, 99]))


def test_one_trace_and_a_list_of_it_give_the_same_numbers(trace):
    for measure in (wb.expert_load, wb.load_balance, wb.router_profile, wb.churn):
        one, many = measure(trace), measure([trace])
        assert one.equals(many)


def test_more_than_one_choice_per_group_is_measured_too():
    """A model without groups: the same three of six experts for every token."""
    trace = routed(np.tile([0, 2, 4], (1, 40, 1)), 6)
    trace.meta["num_groups"] = 1
    pairs = wb.expert_coactivation(trace).set_index(["expert", "partner"])
    assert pairs["possible"].all()
    assert pairs.loc[(0, 2), "count"] == 40
    assert pairs.loc[(0, 2), "expected"] == pytest.approx(40 * 2 * 6 / (3 * 5))
    assert wb.never_used(trace)["unused_share_by_chance"][0] == pytest.approx(0.5**40)
    frame = wb.imbalance_score(trace, draws=50)
    assert frame["routing"].tolist() == ["as_routed", "global_top_k", "uniform"]
    assert not frame["by_construction"].any()
