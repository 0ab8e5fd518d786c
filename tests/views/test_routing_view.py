"""The routing view in Python: its numbers against plain loops, its messages, and its live thread."""

import re
import threading
from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.helpers.made_up import NAMED, SEARCHES, made_up_trace, only_choices
from workbench.analysis.exact_tests import LEVEL, beyond_others, uniform_band
from workbench.errors import GenerationError, TraceError
from workbench.views import RoutingView
from workbench.views.routing.messages import BLOCK
from workbench.views.routing.numbers import Routing


@pytest.fixture(scope="module")
def trace():
    return made_up_trace()


def softmax(logits):
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum()


# -- chance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "size", "cells"), [(0, 8, 4), (1, 8, 1), (40, 8, 256), (97, 3, 7)])  # fmt: skip
def test_the_uniform_band_is_the_exact_binomial_one(tokens, size, cells):
    share, tail = Fraction(1, size), Fraction(LEVEL) / 2 / cells
    mass = [comb(tokens, k) * share**k * (1 - share) ** (tokens - k) for k in range(tokens + 1)]
    inside = [k for k in range(tokens + 1) if sum(mass[: k + 1]) > tail and sum(mass[k:]) > tail]
    assert uniform_band(tokens, 1 / size, cells) == (inside[0], inside[-1])


def test_beyond_others_is_the_exact_hypergeometric_tail():
    tokens, everyone, cells = 9, 31, 5
    for total in (0, 1, 8, 20, 31):
        ways = [comb(total, k) * comb(everyone - total, tokens - k) for k in range(tokens + 1)]
        for count in range(max(0, tokens - everyone + total), min(tokens, total) + 1):
            above = count * everyone >= total * tokens
            tail = sum(ways[count:]) if above else sum(ways[: count + 1])
            expected = Fraction(tail, comb(everyone, tokens)) <= Fraction(LEVEL) / 2 / cells
            got = beyond_others(np.array([count]), np.array([total]), tokens, everyone, cells)
            assert got[0] == expected, (total, count)


def test_uniform_routing_is_hardly_ever_marked():
    marked = sum(
        bool(RoutingView(made_up_trace(tokens=60, seed=seed, bias=0)).table("load")["beyond"].any())
        for seed in range(40)
    )
    assert marked <= 6  # 5 % of 40 whole panels are 2; more than 6 has a probability of 0.3 %


# -- tables ---------------------------------------------------------------------------------------


def test_filters_keep_the_tokens_that_pass_all_of_them(trace):
    view = RoutingView(trace, span="thinking", phase="decode", search="/^ ?[0-9]+$/")
    expected = [
        any(s["start"] <= t < s["end"] for s in trace.spans if s["kind"] == "thinking")
        and t >= trace.prompt_length
        and bool(re.fullmatch(" ?[0-9]+", trace.pieces[t]))
        for t in range(trace.num_tokens)
    ]
    assert 0 < sum(expected) < trace.num_tokens
    assert view.kept.tolist() == expected
    assert RoutingView(trace, search="BE").kept.sum() == sum("be" in p for p in trace.pieces)
    with pytest.raises(
        TraceError, match=r"not a regular expression .*expected a text, or a pattern"
    ):
        view.search = "/[/"
    with pytest.raises(TraceError, match="no domain 'poetry'; expected all or one of"):
        view.domain = "poetry"


@pytest.mark.parametrize(("search", "found"), SEARCHES)
def test_a_search_looks_at_names_only_when_it_asks_for_them(search, found):
    view = RoutingView(made_up_trace(tokens=len(NAMED), pieces=NAMED), search=search)
    assert [piece for piece, kept in zip(NAMED, view.kept, strict=True) if kept] == found


@pytest.mark.parametrize("compare", ["uniform", "others"])
def test_the_load_table_counts_the_kept_tokens(trace, compare):
    view = RoutingView(trace, phase="prefill", compare=compare)
    frame = view.table("load").set_index(["layer", "expert"])
    kept = trace.prompt_length
    for layer in range(3):
        for expert in range(12):
            uses = [expert in trace.selected_experts[layer, t] for t in range(trace.num_tokens)]
            row = frame.loc[layer, expert]
            assert row["count"] == sum(uses[:kept])
            assert row["share"] == pytest.approx(sum(uses[:kept]) / kept)
            assert row["load_ratio"] == pytest.approx(sum(uses[:kept]) / kept * 3)
            assert row["others_share"] == pytest.approx(sum(uses[kept:]) / (len(uses) - kept))
            if compare == "uniform":
                low, high = uniform_band(kept, 1 / 3, 36)
                assert row["beyond"] == (not low <= sum(uses[:kept]) <= high)
            else:
                pair = np.array([sum(uses[:kept])]), np.array([sum(uses)])
                assert row["beyond"] == beyond_others(*pair, kept, len(uses), 36)[0]


def test_the_token_table_holds_winner_margin_scale_and_counterfactual(trace):
    frame = RoutingView(trace, token=4, layer=2).table()
    probability = softmax(trace.router_logits[2, 4])
    best = set(np.argsort(-probability)[:4])
    for group, row in enumerate(frame.itertuples()):
        own = sorted(probability[3 * group : 3 * group + 3])
        winner = 3 * group + int(probability[3 * group : 3 * group + 3].argmax())
        scale = trace.meta["router_scale"][2][winner]
        assert (row.token, row.piece, row.layer, row.group, row.expert) == (4, trace.pieces[4], 2, group, winner)  # fmt: skip
        assert row.probability == pytest.approx(own[-1], rel=1e-5)
        assert row.margin == pytest.approx(own[-1] - own[-2], rel=1e-4)
        assert row.router_scale == pytest.approx(scale)
        assert row.weight == pytest.approx(own[-1] * scale, rel=1e-5)
        assert row.in_global_top == (winner in best)
    assert not frame["in_global_top"].all()
    assert len(RoutingView(trace).table()) == trace.num_tokens * 4


def test_the_tokens_table_and_the_map_hold_every_choice(trace):
    view = RoutingView(trace, layer=1, group=2)
    frame = view.table("tokens")
    for token, row in enumerate(frame.itertuples()):
        probability = softmax(trace.router_logits[1, token])
        own = sorted(probability[6:9])
        assert row.expert == trace.selected_experts[1, token, 2]
        assert row.margin == pytest.approx(own[-1] - own[-2], rel=1e-4)
        assert row.entropy == pytest.approx(-(probability * np.log(probability)).sum() / np.log(12), rel=1e-5)  # fmt: skip
        if token:
            assert row.surprisal_bits == pytest.approx(-trace.chosen_logprobs[token - 1] / np.log(2))  # fmt: skip
    choices = view.table("map").set_index(["token", "layer", "group"])["expert"]
    for place, expert in np.ndenumerate(trace.selected_experts):
        assert choices[place[1], place[0], place[2]] == expert


def test_an_experts_tables_hold_its_tokens_words_and_partners(trace):
    view = RoutingView(trace, layer=1, expert=7, search="")
    users = [t for t in range(trace.num_tokens) if 7 in trace.selected_experts[1, t]]
    frame = view.table("expert")
    assert sorted(frame["token"]) == users
    assert frame["weight"].is_monotonic_decreasing
    for row in frame.itertuples():
        assert row.weight == trace.routing_weights[1, row.token, 2]
        assert row.context == "".join(trace.pieces[max(0, row.token - 4) : row.token + 5])
    for row in view.table("words").itertuples():
        assert row.count == sum(trace.pieces[t] == row.piece for t in users)
        assert row.of == trace.pieces.count(row.piece)
    partners = view.table("partners").set_index("expert")
    assert set(partners.index).isdisjoint({6, 7, 8})  # its own group is impossible
    for other, row in partners.iterrows():
        both = sum(other in trace.selected_experts[1, t] for t in users)
        alone = sum(other in trace.selected_experts[1, t] for t in range(trace.num_tokens))
        assert row["together"] == both
        assert row["lift"] == pytest.approx(both * trace.num_tokens / (len(users) * alone))
    with pytest.raises(TraceError, match="needs an expert"):
        RoutingView(trace).table("partners")
    with pytest.raises(TraceError, match=r"no table 'heads'; expected one of .*'load'"):
        view.table("heads")


# -- several traces, and traces that lack something --------------------------------------------------


def test_traces_stand_side_by_side(trace):
    other = made_up_trace(tokens=9, seed=5)
    view = RoutingView({"poem": trace, "sum": other}, document=1, token=2, layer=1, expert=4)
    assert view.table()["expert"].tolist() == other.selected_experts[1, 2].tolist()
    assert view.table()["label"].unique().tolist() == ["sum"]
    domains = view.table("domains").set_index("domain")
    for label, one in (("poem", trace), ("sum", other)):
        count = sum(4 in chosen for chosen in one.selected_experts[1])
        assert domains.loc[label, "count"] == count
        assert domains.loc[label, "share"] == pytest.approx(count / one.num_tokens)
    view.domain = "sum"
    assert view.table("load")["count"].sum() == other.selected_experts.size
    contexts = RoutingView([trace, other], ["a", "a"], layer=1, expert=4).table("expert")
    assert contexts.query("token == 0")["context"].isin(["".join(trace.pieces[:5])]).all()
    view.token = 8
    view.document = 0
    view.token = 20
    view.document = 1  # has only 9 tokens
    assert view.token == -1


def test_traces_that_do_not_fit_together_are_refused(trace):
    with pytest.raises(TraceError, match=r"3 layers, 4 slots, 12 experts.*same shape"):
        RoutingView([trace, made_up_trace(experts=8)], ["a", "b"])
    with pytest.raises(TraceError, match="1 traces and 2 labels"):
        RoutingView([trace], ["a", "b"])


def test_recorded_choices_alone_show_choices_and_loads(trace):
    bare = only_choices(trace)
    assert (np.diff(bare.selected_experts.astype(int)) < 0).any()  # not in the groups' order
    view = RoutingView(bare, token=4, layer=2, expert=5)
    content, buffers = view.answer({"kind": "want"})
    assert content["missing"] == ["router_logits", "routing_weights", "chosen_logprobs", "router_scale"]  # fmt: skip
    assert content["grouped"]
    assert buffers[0] == RoutingView(trace).answer({"kind": "want"})[1][0]
    pd.testing.assert_frame_equal(view.table("load"), RoutingView(trace).table("load"))
    assert list(view.table()) == ["token", "piece", "layer", "group", "expert"]
    assert "weight" not in view.table("expert")
    assert view.answer({"kind": "layer", "layer": 1})[1] == [b"", b"", b""]
    assert view.answer({"kind": "block", "layer": 1, "block": 0})[1] == [b""]
    assert len(view.figure().axes) == 3


def test_weights_follow_choices_that_come_in_the_order_of_ranks(trace):
    order = np.argsort(-trace.routing_weights, axis=-1)
    arrays = dict(trace.arrays)
    for name in ("selected_experts", "routing_weights"):
        arrays[name] = np.take_along_axis(arrays[name], order, -1)
    ranked = RoutingView(wb.Trace(arrays, trace.meta), layer=2)
    np.testing.assert_array_equal(ranked.routing.weights(2), trace.routing_weights[2])


def test_choices_that_break_the_groups_are_shown_as_they_are(trace):
    chosen = trace.selected_experts.copy()
    chosen[0, 3, 1] = 0  # a second expert of group 0
    view = RoutingView(wb.Trace({**trace.arrays, "selected_experts": chosen}, trace.meta))
    content, buffers = view.answer({"kind": "want"})
    assert not content["grouped"]
    sent = np.frombuffer(buffers[0], np.uint16).reshape(-1, 3, 4)
    np.testing.assert_array_equal(sent, chosen.swapaxes(0, 1))


# -- messages -----------------------------------------------------------------------------------------


def test_the_choices_are_sent_in_four_bits_each(trace):
    content, buffers = RoutingView(trace).answer({"kind": "want"})
    packed = np.frombuffer(buffers[0], np.uint8)
    halves = np.stack([packed & 15, packed >> 4], -1).ravel()[: trace.selected_experts.size]
    chosen = halves.reshape(trace.num_tokens, 3, 4) + np.arange(4) * 3
    np.testing.assert_array_equal(chosen, trace.selected_experts.swapaxes(0, 1))
    assert content["documents"][0]["pieces"] == trace.pieces


def test_a_block_holds_the_probabilities_of_its_tokens():
    trace = made_up_trace(layers=2, tokens=BLOCK + 7)
    view = RoutingView(trace)
    _, (buffer,) = view.answer({"kind": "block", "layer": 1, "block": 1})
    sent = np.frombuffer(buffer, np.float32).reshape(7, 12)
    expected = [softmax(trace.router_logits[1, BLOCK + n]) for n in range(7)]
    np.testing.assert_allclose(sent, expected, rtol=1e-5)
    _, (weights, entropy, margins) = view.answer({"kind": "layer", "layer": 1})
    assert [len(b) // 4 for b in (weights, entropy, margins)] == [263 * 4, 263, 263 * 4]
    kinds = [question["kind"] for question in view.questions()]
    assert kinds == ["want", "layer", "layer", "block", "block", "block", "block"]


def test_a_static_page_takes_along_only_what_fits(monkeypatch, trace):
    monkeypatch.setattr("workbench.views.routing.messages.PAGE_BYTES", 10)
    questions = RoutingView(trace, layer=2).questions()
    assert [question.get("layer") for question in questions] == [None, 2, 2]


# -- live -----------------------------------------------------------------------------------------------


def test_tokens_can_be_appended(trace, monkeypatch):
    view, sent = RoutingView(trace), []
    monkeypatch.setattr(view, "send", lambda content, buffers: sent.append((content, buffers)))
    new = made_up_trace(tokens=2, seed=9)
    view.append(["a", "b"], new.arrays, "answer", [1.5, 2.5])
    assert view.table("tokens")["surprisal_bits"].tolist()[-2:] == [1.5, 2.5]
    assert view.table("tokens")["span"].tolist()[-3:] == ["answer"] * 3
    np.testing.assert_array_equal(view.routing.chosen[-2:], new.selected_experts.swapaxes(0, 1))
    assert sent[0][0]["pieces"] == ["a", "b"]
    assert sent[0][0]["start"] == len(trace.pieces)
    assert len(sent[0][1][0]) == 3 * 2 * 4 // 2
    with pytest.raises(
        TraceError, match=r"selected_experts is \[3, 2, 4\]; expected .*\[3, 1, 4\]"
    ):
        view.append(["a"], new.arrays)


def test_a_view_that_grows_is_not_read_half_grown(trace, monkeypatch):
    view, new = RoutingView(trace), made_up_trace(tokens=2, seed=9)
    view.expert, readers, told = 1, [], []
    questions = [
        lambda: view.answer({"kind": "want"}),
        lambda: view.answer({"kind": "layer", "layer": 0}),
        lambda: view.table("expert"),
        view.figure,
        lambda: view.kept,
    ]

    def meanwhile(routing, plain=Routing.append):
        def append(*arguments):
            for question in questions:
                reader = threading.Thread(target=lambda ask=question: told.append(ask()))
                readers.append(reader)
                reader.start()
            for reader in readers:
                reader.join(0.2)
            assert not told
            plain(routing, *arguments)

        return append

    monkeypatch.setattr(view, "send", lambda content, buffers: None)
    monkeypatch.setattr(view.routing, "append", meanwhile(view.routing))
    view.append(["a", "b"], new.arrays)
    for reader in readers:
        reader.join(60)
    assert len(told) == len(questions)


def test_a_live_view_fills_token_by_token_and_keeps_the_trace(moe, monkeypatch):
    monkeypatch.setattr("workbench.views.routing.view.PAUSE", 0)
    counts = []
    plain = RoutingView.append
    monkeypatch.setattr(RoutingView, "append", lambda view, *rest: plain(view, *rest) or counts.append(view.routing.num_tokens))  # fmt: skip
    view = RoutingView.live(moe, "To be", max_new_tokens=6)
    trace = view.wait(60)
    assert not view.running
    prompt = trace.prompt_length
    assert counts == list(range(prompt, trace.num_tokens))
    again = moe.trace("To be", max_new_tokens=6, attention=None)
    np.testing.assert_array_equal(trace.selected_experts, again.selected_experts)
    np.testing.assert_array_equal(view.table("map")["expert"], again.selected_experts.swapaxes(0, 1).ravel())  # fmt: skip


@pytest.mark.parametrize("pause", [0, 0.05])
def test_what_was_shown_live_is_what_the_trace_holds(moe, monkeypatch, pause):
    monkeypatch.setattr("workbench.views.routing.view.PAUSE", pause)
    parts, bits = [], []
    plain = RoutingView.append

    def append(view, pieces, arrays, span, surprisal):
        parts.append(arrays["router_logits"])
        bits.extend([np.nan] * len(pieces) if surprisal is None else surprisal)
        plain(view, pieces, arrays, span, surprisal)

    monkeypatch.setattr(RoutingView, "append", append)
    trace = RoutingView.live(moe, "To be", max_new_tokens=6).wait(60)
    shown = np.concatenate(parts, axis=1)
    np.testing.assert_array_equal(shown, trace.router_logits[:, : shown.shape[1]])
    known = np.array(bits)[trace.prompt_length :]
    expected = -trace.chosen_logprobs[trace.prompt_length - 1 :][: len(known)] / np.log(2)
    np.testing.assert_allclose(known, expected, rtol=1e-3, atol=1e-3)


def test_a_live_view_sends_a_message_only_now_and_then(moe, monkeypatch):
    monkeypatch.setattr("workbench.views.routing.view.PAUSE", 1000)
    sent = []
    monkeypatch.setattr(RoutingView, "send", lambda view, content, buffers: sent.append(content["kind"]))  # fmt: skip
    trace = RoutingView.live(moe, "To be", max_new_tokens=6).wait(60)
    assert trace.num_tokens == trace.prompt_length + 6
    assert sent == ["more", "routing"]


def test_a_live_view_stops(moe, monkeypatch):
    plain = RoutingView.append

    def append(view, *rest):
        plain(view, *rest)
        if view.routing.num_tokens >= 8:
            view.answer({"kind": "stop"})

    monkeypatch.setattr(RoutingView, "append", append)
    view = RoutingView.live(moe, "To be", max_new_tokens=400)
    assert view.wait(60).num_tokens < 400
    assert not view.running


def test_a_live_view_says_what_is_wrong(moe, dense):
    with pytest.raises(TraceError, match="dense model"):
        RoutingView.live(dense, "To be")
    view = RoutingView.live(moe, "To be", max_new_tokens=-1)
    view.wait(60)
    content, _ = view.answer({"kind": "want"})
    assert content["error"] == "max tokens (max_new_tokens) is -1; expected 0 or more."
    view._stop.set()
    with pytest.raises(GenerationError, match="stopped before the prompt was read"):
        moe.trace("To be", max_new_tokens=3, stop=view._stop)
