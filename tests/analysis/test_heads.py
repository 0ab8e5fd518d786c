"""The head finder: heads made by hand, an independent loop, and what chance gives."""

import pickle

import numpy as np
import pandas as pd
import pytest

from tests.helpers.attention_traces import attending_to, random_trace
from workbench.analysis import attention_sums, head_scores
from workbench.analysis.heads import texts_of
from workbench.errors import TraceError

SAID = [7, 3, 9, 4, 1, 8, 2, 6, 5, 11, 13, 12]  # all different
IDS = [0, *SAID, *SAID]
PATTERNS = ("previous_token", "first_token", "own_token", "same_token", "induction", "local", "uniform")  # fmt: skip


def made_by_hand() -> pd.DataFrame:
    ids = np.array(IDS)
    trace = attending_to(
        [
            lambda query, key: key == query - 1,
            lambda query, key: key == 0,
            lambda query, key: key == query,
            lambda query, key: (ids[key] == ids[query]) & (key < query),
            lambda query, key: (ids[np.maximum(key, 1) - 1] == ids[query]) & (key > 0) & (key < query),
            lambda query, key: key > query - 3,
            lambda query, key: key <= query,
        ],
        IDS,
        rests_on=lambda query, key: np.broadcast_to(key == 0, (len(IDS), len(IDS))),
    )  # fmt: skip
    return head_scores(trace, window=3)


def test_a_head_that_follows_a_pattern_scores_one_and_is_tagged():
    frame = made_by_hand()
    for head, name in enumerate(PATTERNS):
        assert frame.loc[head, name] == pytest.approx(1, abs=1e-6), name
        assert name in frame.loc[head, "tags"].split(", ")
    tags = frame["tags"].tolist()
    assert tags[0] == "previous_token, local"  # the token before is one of the last three
    assert tags[2] == "own_token, local"
    assert tags[1] == "first_token"
    assert tags[3:] == ["same_token", "induction", "local", "uniform"]


def test_even_attention_scores_what_chance_gives():
    even = made_by_hand().loc[6]
    for name in ("previous_token", "first_token", "own_token", "local"):
        assert even[name] == pytest.approx(even[f"{name}_chance"], abs=1e-6)
    queries = np.arange(1, len(IDS))
    assert even["previous_token_chance"] == pytest.approx(np.mean(1 / (queries + 1)), abs=1e-6)
    assert even["local_chance"] == pytest.approx(np.mean(3 / (queries[2:] + 1)), abs=1e-6)
    assert even["entropy_normalised"] == pytest.approx(1, abs=1e-5)
    assert even["entropy_bits"] == pytest.approx(np.mean(np.log2(queries + 1)), abs=1e-5)
    assert even["mean_distance"] == pytest.approx(np.mean(queries / 2), abs=1e-4)


def test_a_head_on_one_token_has_no_entropy_and_its_distance():
    frame = made_by_hand()
    assert frame.loc[0, "mean_distance"] == pytest.approx(1, abs=1e-5)
    assert frame.loc[2, "mean_distance"] == pytest.approx(0, abs=1e-5)
    assert frame.loc[:2, "entropy_bits"].tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert frame.loc[1, "uniform"] == pytest.approx(frame.loc[1, "uniform_chance"], abs=1e-6)


def looped(trace, layer, head, window, where, extra) -> dict[str, tuple[float, int]]:
    """Every score in plain loops over single pairs; and how many query tokens it is a mean of."""
    attention, ids = trace.attention(layer, head).astype(float), trace.token_ids
    found = {name: [] for name in (*PATTERNS, "extra", "bits", "distance", "share")}
    for q in range(trace.num_tokens):
        if not where[q]:
            continue
        a = attention[q]
        same = [k for k in range(q) if ids[k] == ids[q]]
        after = [k for k in range(1, q) if ids[k - 1] == ids[q]]
        own = [k for k in range(q + 1) if extra(q, k)]
        for name, keys in (("same_token", same), ("induction", after), ("extra", own)):
            if keys:
                found[name].append(sum(a[k] for k in keys))
        if q >= window:
            found["local"].append(sum(a[q - window + 1 : q + 1]))
        if q > 0:
            found["previous_token"].append(a[q - 1])
            found["first_token"].append(a[0])
            found["own_token"].append(a[q])
            found["uniform"].append(sum(min(a[k], 1 / (q + 1)) for k in range(q + 1)))
            bits = -sum(a[k] * np.log2(a[k]) for k in range(q + 1) if a[k] > 0)
            found["bits"].append(bits)
            found["share"].append(bits / np.log2(q + 1))
            found["distance"].append(sum(a[k] * (q - k) for k in range(q + 1)))
    return {name: (np.mean(values), len(values)) for name, values in found.items()}


@pytest.mark.parametrize("size", [600, 8_000_000])
def test_scores_are_those_of_a_loop_over_pairs_whatever_the_blocks(size, monkeypatch):
    monkeypatch.setattr(attention_sums, "BLOCK_BYTES", size)
    monkeypatch.setattr(attention_sums, "LEAST_ROWS", 5)
    trace = random_trace(3, 23, attention_layers=[1, 4], layers=2)
    trace.meta["config"]["num_hidden_layers"] = 5
    where = np.random.default_rng(0).random(23) < 0.7
    extra = {"extra": lambda query, key: (query - key) % 3 == 1}
    arguments = {"patterns": extra, "window": 4, "where": where}
    frame = head_scores(trace, **arguments)
    long = head_scores(trace, **arguments, long=True).set_index(["layer", "head", "pattern"])
    assert list(zip(frame["layer"], frame["head"], frame["kv_head"], strict=True)) == [
        (layer, head, head // 3) for layer in (1, 4) for head in range(6)
    ]
    for row in frame.itertuples():
        expected = looped(trace, row.layer, row.head, 4, where, extra["extra"])
        for name in (*PATTERNS, "extra"):
            mean, count = expected[name]
            assert getattr(row, name) == pytest.approx(mean, abs=2e-6), name
            entry = long.loc[row.layer, row.head, name]
            assert (entry["score"], entry["query_tokens"]) == (getattr(row, name), count)
        assert row.entropy_bits == pytest.approx(expected["bits"][0], abs=1e-5)
        assert row.entropy_normalised == pytest.approx(expected["share"][0], abs=1e-5)
        assert row.mean_distance == pytest.approx(expected["distance"][0], abs=1e-4)


def test_chance_is_the_mean_over_shuffled_texts_with_the_first_token_in_place():
    trace = random_trace(5, 19, layers=1)
    attention = trace.attention(0, 2)
    drawn = attention_sums.shuffled(trace.token_ids, 7, seed=4)
    assert drawn.shape == (8, 19)
    assert (drawn[:, 0] == trace.token_ids[0]).all()
    assert (np.sort(drawn, axis=-1) == np.sort(trace.token_ids)).all()
    assert len({tuple(order) for order in drawn}) == 8
    means = []
    for ids in drawn[1:]:
        same = [[ids[k] == ids[q] for k in range(q)] for q in range(19)]
        means.append(np.mean([attention[q, :q][keys].sum() for q, keys in enumerate(same) if any(keys)]))  # fmt: skip
    frame = head_scores(trace, shuffles=7, seed=4)
    assert frame.loc[2, "same_token_chance"] == pytest.approx(np.mean(means), abs=1e-6)


def test_random_heads_are_as_good_as_chance_and_earn_no_tag():
    traces = [random_trace(seed, 80, types=9, layers=4, size=4) for seed in range(6)]
    long = head_scores(traces, long=True)
    by_pattern = long.groupby("pattern")["above_chance"].mean().drop("uniform")
    assert by_pattern.abs().max() < 0.01
    rows = long[long["pattern"] != "uniform"]
    assert not rows["tagged"].any()
    assert ((rows["low"] <= rows["score"]) & (rows["score"] <= rows["high"])).all()


def test_a_head_of_the_last_tokens_is_no_finder_of_equal_ids():
    """In a text of few ids it meets them everywhere, and so it does in the shuffled text."""
    ids = np.random.default_rng(1).integers(3, size=60)
    trace = attending_to([lambda query, key: (query - key < 9) & (key < query)], ids)
    row = head_scores(trace, long=True).set_index("pattern").loc["same_token"]
    assert row["score"] > 0.25
    assert abs(row["above_chance"]) < 0.06
    assert not row["tagged"]


def test_traces_together_are_means_over_all_their_query_tokens():
    traces = [random_trace(seed, length) for seed, length in enumerate([9, 30, 14])]
    together = head_scores(traces)["previous_token"]
    apart = [head_scores(trace)["previous_token"] * (trace.num_tokens - 1) for trace in traces]
    np.testing.assert_allclose(together, sum(apart) / sum(t.num_tokens - 1 for t in traces), atol=1e-6)  # fmt: skip
    long = head_scores(traces, long=True)
    assert long["low"].isna().all()  # three texts give no interval


def test_a_tag_needs_its_threshold_and_enough_query_tokens():
    trace = attending_to([lambda query, key: key == query - 1], IDS)
    assert head_scores(trace)["tags"].item() == "previous_token, local"
    assert head_scores(trace, threshold={"local": 1.5})["tags"].item() == "previous_token"
    assert head_scores(trace, threshold=1.01)["tags"].item() == ""
    assert head_scores(trace, threshold=np.float32(1.01))["tags"].item() == ""
    short = attending_to([lambda query, key: key == query - 1], IDS[:10])
    assert head_scores(short)["tags"].item() == ""  # 9 query tokens
    assert head_scores(short)["previous_token"].item() == pytest.approx(1)


def test_a_pattern_can_be_an_array_as_well_as_a_function():
    trace = random_trace(2, 17)
    mask = np.random.default_rng(3).random((17, 17)) < 0.3
    patterns = {"array": mask, "function": lambda query, key: mask[query, key]}
    frame = head_scores(trace, patterns)
    np.testing.assert_array_equal(frame["array"], frame["function"])
    allowed = np.tril(mask)
    even = (allowed / np.arange(1, 18)[:, None]).sum(-1)[allowed.any(-1)].mean()
    assert frame["array_chance"].to_numpy() == pytest.approx(even, abs=1e-6)


def test_what_a_text_does_not_hold_is_not_scored():
    frame = head_scores(attending_to([lambda query, key: key == query - 1], range(12)))
    assert frame[["same_token", "induction", "same_token_chance"]].isna().all(axis=None)
    assert frame["previous_token"].notna().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patterns": {"local": lambda query, key: key == 0}}, "'local' is taken"),
        ({"patterns": {"mine": np.ones((3, 3), dtype=bool)}}, r"\[query, key\] of shape \(17, 17\)"),
        ({"patterns": {"mine": lambda query, key: key - query}}, "int64 of shape"),
        ({"patterns": {"mine": lambda query, key: np.ones(4, dtype=bool)}}, "expected booleans"),
        ({"patterns": {"near, far": lambda query, key: key == 0}}, "called 'near, far'; expected a name without"),
        ({"patterns": {"": lambda query, key: key == 0}}, "called ''"),
        ({"patterns": {"mine": lambda query: query == 2}}, r"function of \(query\); expected one of \(query, key\)"),
        ({"patterns": lambda query, key: key == 0}, "patterns is .* expected {name: pattern}"),
        ({"threshold": float("nan")}, "threshold is nan; expected a fraction"),
        ({"threshold": {"local": "high"}}, "threshold is 'high'; expected a fraction"),
        ({"window": 0}, "window is 0"),
        ({"threshold": {"inductoin": 0.3}}, "threshold names 'inductoin'"),
        ({"where": "answer"}, "matches no query token"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused(arguments, message):
    with pytest.raises(TraceError, match=message):
        head_scores(random_trace(2, 17), **arguments)


def test_scores_tell_of_which_texts_they_are():
    first, second = random_trace(0, 9), random_trace(1, 12)
    scores = head_scores([first, second], {"equal": np.equal}, threshold={})
    assert scores.attrs["texts"] == texts_of([second, first]) != texts_of(first)
    pd.testing.assert_frame_equal(scores, head_scores(iter([first, second]), {"equal": np.equal}))
    assert pickle.loads(pickle.dumps(scores)).attrs == scores.attrs
    assert pd.concat([scores, scores]).attrs == scores.attrs


def test_traces_that_do_not_belong_together_are_refused():
    with pytest.raises(TraceError, match=r"num_heads is 6 of a trace of .* and 4 of another"):
        head_scores([random_trace(0, 9), random_trace(0, 9, heads=4)])
    less = random_trace(0, 9)
    less.meta["attention_layers"] = [1]
    with pytest.raises(TraceError, match=r"attention_layers is \[0, 1\] .* and \[1\] of another"):
        head_scores([random_trace(0, 9), less])
    with pytest.raises(TraceError, match="an array, which fits one text"):
        head_scores([random_trace(0, 9)] * 2, {"mine": np.ones((9, 9), dtype=bool)})
    with pytest.raises(TraceError, match="at least one trace"):
        head_scores([])
    without = random_trace(0, 9)
    without.meta["attention_layers"] = []
    with pytest.raises(TraceError, match="attention=None"):
        head_scores(without)
