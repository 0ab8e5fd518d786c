"""Metrics on numbers small enough to check by hand, and against plain loops."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.helpers.traces import handmade
from workbench.errors import TraceError
from workbench.traces.trace import Trace


@pytest.fixture
def trace() -> Trace:
    return handmade(np.random.default_rng(5).normal(size=(3, 7, 12)) * 2, groups=4)


def test_expert_load_counts_every_choice(trace):
    frame = wb.expert_load(trace).set_index(["layer", "expert"])
    for layer, expert in product(range(3), range(12)):
        count = sum(expert in trace.selected_experts[layer, token] for token in range(7))
        row = frame.loc[layer, expert]
        assert row["count"] == count
        assert row["load_share"] == pytest.approx(count / 28)
        assert row["load_ratio"] == pytest.approx(12 * count / 28)
        assert row["group"] == expert // 3
        assert row["unused_by_chance"] == pytest.approx((2 / 3) ** 7)
        chosen = trace.selected_experts[layer] == expert
        weight = trace.routing_weights[layer][chosen].sum() / trace.routing_weights[layer].sum()
        assert row["weight_share"] == pytest.approx(weight, rel=1e-5)
    by_group = frame.groupby(["layer", "group"])["count"].sum()
    assert (by_group == 7).all()


def test_router_entropy_is_one_when_uniform_and_near_zero_when_certain():
    logits = np.zeros((1, 2, 6))
    logits[0, 1, 4] = 50
    frame = wb.router_entropy(handmade(logits, groups=3))
    assert frame["entropy"].tolist() == pytest.approx([1, 0], abs=1e-9)
    assert frame["selected_mass"].tolist() == pytest.approx([0.5, 1], abs=1e-9)
    assert frame["margin"].tolist() == pytest.approx([0, 1 / 3], abs=1e-9)


def test_router_entropy_equals_its_formula(trace):
    frame = wb.router_entropy(trace).set_index(["layer", "token"])
    for layer, token in product(range(3), range(7)):
        logits = trace.router_logits[layer, token].astype(float)
        p = np.exp(logits) / np.exp(logits).sum()
        expected = -sum(value * math.log(value) for value in p) / math.log(12)
        assert frame.loc[(layer, token), "entropy"] == pytest.approx(expected)


def test_divergence_is_one_bit_for_disjoint_domains_and_zero_for_equal_ones():
    left, right = np.zeros((1, 4, 4)), np.zeros((1, 4, 4))
    left[..., [0, 2]] = 5
    right[..., [1, 3]] = 5
    traces = [handmade(logits, 2) for logits in (left, left, left, right, right, right)]
    apart = wb.domain_divergence(traces, list("aaabbb"))
    assert apart["divergence_bits"].tolist() == pytest.approx([1])
    assert apart["shuffled_bits"][0] < 0.5
    same = wb.domain_divergence([traces[0]] * 4, list("aabb"))
    assert same["divergence_bits"].tolist() == pytest.approx([0], abs=1e-12)


def test_divergence_needs_labels():
    trace = handmade(np.zeros((1, 2, 4)), 2)
    with pytest.raises(TraceError, match="one label per trace"):
        wb.domain_divergence([trace, trace], ["a"])
    with pytest.raises(TraceError, match="at least two kinds"):
        wb.domain_divergence([trace, trace], ["a", "a"])


def test_attention_to_lists_the_largest_weights_first(moe):
    trace = moe.trace("To be, or not to be")
    frame = wb.attention_to(trace, 1, 3, 6, top=4)
    row = trace.attention(1, 3)[6]
    assert frame["weight"].tolist() == pytest.approx(sorted(row, reverse=True)[:4], abs=1e-6)
    assert frame["uniform"].unique() == pytest.approx([1 / 7])
    assert row[frame["token"]] == pytest.approx(frame["weight"], abs=1e-6)
    last = wb.attention_to(trace, 1, 3, -1)
    pd.testing.assert_frame_equal(last, wb.attention_to(trace, 1, 3, trace.num_tokens - 1))
    with pytest.raises(TraceError, match=f"row {trace.num_tokens} is out of range"):
        wb.attention_to(trace, 1, 3, trace.num_tokens)
