"""Texts of random tokens said twice, and what they show of a head that finds repetitions."""

from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from tests.helpers.attention_traces import attending_to
from workbench.errors import TraceError


def test_each_text_says_different_ordinary_tokens_twice(dense):
    traces = wb.repeated_random_tokens(dense, length=7, sequences=3, seed=2)
    special = dense.tokenizer.special_tokens.values()
    for size, trace in zip((7, 8, 9), traces, strict=True):
        ids = trace.token_ids.tolist()
        assert ids[0] == dense.tokenizer.bos_token_id
        assert len(ids) == 1 + 2 * size
        assert ids[1 : 1 + size] == ids[1 + size :]
        assert len(set(ids)) == 1 + size
        assert not set(ids[1:]) & set(special)
        assert not any(piece.startswith("<0x") for piece in trace.pieces)
    again = wb.repeated_random_tokens(dense, length=7, sequences=1, seed=2)[0]
    np.testing.assert_array_equal(again.token_ids, traces[0].token_ids)


def test_a_model_with_random_weights_has_no_induction_head(dense):
    frame = wb.induction_probe(dense, length=12)
    assert len(frame) == 18
    assert not frame["tagged"].any()
    assert frame["induction"].is_monotonic_decreasing
    assert ((frame["low"] <= frame["induction"]) & (frame["induction"] <= frame["high"])).all()
    traces = wb.repeated_random_tokens(dense, length=12)
    layer, head, _ = frame.loc[0, ["layer", "head", "kv_head"]].astype(int)
    weights = [
        trace.attention(layer, head)[query, query - size + 1]
        for size, trace in enumerate(traces, 12)
        for query in range(1 + size, 1 + 2 * size)
    ]
    assert frame.loc[0, "induction"] == pytest.approx(np.mean(weights), abs=1e-6)


def stand_in(dense, head) -> SimpleNamespace:
    """A model of one head, `head` giving (ids) its pattern (query, key) → bool."""
    return SimpleNamespace(
        tokenizer=dense.tokenizer,
        config=dense.config,
        trace=lambda ids: attending_to([head(np.array(ids))], ids),
    )


def test_an_induction_head_is_found_and_one_of_a_fixed_distance_is_not(dense):
    finder = stand_in(
        dense,
        lambda ids: lambda query, key: (ids[key - 1] == ids[query]) & (key > 0) & (key < query),
    )
    row = wb.induction_probe(finder, length=12).loc[0]
    assert row["induction"] == pytest.approx(1, abs=1e-6)
    assert row["chance"] < 0.15
    assert row["tagged"]
    distant = stand_in(dense, lambda ids: lambda query, key: key == query - 11)
    row = wb.induction_probe(distant, length=12).loc[0]
    assert row["induction"] == pytest.approx(12 / (12 + 13 + 14 + 15 + 16))  # the first text alone
    assert not row["tagged"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 1}, "length is 1"),
        ({"length": 300}, "different tokens;"),
        ({"length": 2.5}, "a number of tokens"),
        ({"sequences": 0}, "sequences is 0"),
    ],
)
def test_a_length_that_does_not_fit_is_refused(arguments, message, dense):
    with pytest.raises(TraceError, match=message):
        wb.repeated_random_tokens(dense, **arguments)


def test_what_is_no_model_is_refused(dense):
    with pytest.raises(TraceError, match=r"expected a loaded model, .* wb.load\(.*; got Trace"):
        wb.induction_probe(dense.trace("To be"))
