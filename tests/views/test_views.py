"""Widgets in Python: what they refuse, what they tell, and that their scripts agree with them."""

import re
import threading

import numpy as np
import pytest

import workbench as wb
from workbench.errors import GenerationError, TraceError
from workbench.views import (
    AttentionView,
    HeadScoresView,
    Playground,
    RoutingView,
    attention_heatmap,
    expert_load_bars,
    routing_heatmap,
)


@pytest.fixture(scope="module")
def trace(moe):
    return moe.trace("To be, or not to be $x$")


@pytest.mark.parametrize("view", [RoutingView, AttentionView, HeadScoresView, Playground])
def test_script_and_class_have_the_same_traits(view):
    script = view._script.read_text(encoding="utf-8")
    used = set(re.findall(r'model\.(?:get|set)\("(\w+)"', script))
    heard = set(re.findall(r'"change:(\w+)"', script))
    documented = set(re.findall(r"@property \{[^}]+\} (\w+)", script))
    traits = {
        name for name, trait in vars(view).items() if getattr(trait, "metadata", {}).get("sync")
    }
    assert used | heard == traits == documented
    assert "import " not in script.replace("important", "")
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest", script)


@pytest.mark.parametrize("view", [RoutingView, AttentionView, HeadScoresView])
def test_a_misspelt_setting_is_refused(view, trace):
    with pytest.raises(TypeError, match=r"no setting 'tokens'; it has .*layer"):
        view(trace, tokens=3)


def test_a_selection_out_of_range_is_refused(trace):
    view = RoutingView(trace)
    with pytest.raises(TraceError, match="token 99 is out of range"):
        view.token = 99
    with pytest.raises(TraceError, match="head 6 is not recorded"):
        AttentionView(trace, head=6)


def test_a_view_says_what_it_needs(dense):
    trace = dense.trace("To be", attention=None)
    with pytest.raises(TraceError, match="dense model"):
        RoutingView(trace)
    with pytest.raises(TraceError, match="attention=None"):
        AttentionView(trace)


def test_the_table_holds_the_numbers_on_screen(trace):
    frame = AttentionView(trace, layer=2, head=5, token=4).table()
    assert frame["weight"].sum() == pytest.approx(1)
    assert frame["weight"].is_monotonic_decreasing


def test_figures_show_the_trace(trace):
    image = routing_heatmap(trace).axes[0].images[0].get_array()
    assert image.shape == (3, trace.num_tokens * 4, 3)
    image = attention_heatmap(trace, 1, 2, sink=0).axes[0].images[0].get_array()
    np.testing.assert_allclose(image.filled(0), trace.attention(1, 2), atol=1e-6)
    bars = expert_load_bars(trace, 2).axes[0].patches
    load = wb.expert_load(trace).query("layer == 2")["load_ratio"]
    np.testing.assert_allclose([bar.get_height() for bar in bars], load)


def test_a_widget_brings_a_picture_for_readers_without_kernel(trace):
    bundle = RoutingView(trace)._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["image/png"].startswith("iVBOR")
    assert "application/vnd.jupyter.widget-view+json" in data


def test_the_playground_generates_in_a_thread_and_stops(moe):
    play = Playground(moe, prompt="To be", mode="raw", temperature=1.0, max_new_tokens=400)
    told, four = [], threading.Event()

    def hear(message):
        told.append(message)
        if len(told) == 5:
            four.set()

    play._tell = hear
    play.start()
    assert four.wait(60)
    with pytest.raises(GenerationError, match="is running"):
        play.start()
    play.stop()
    generation = play.wait(60)
    assert not play.running
    assert generation.finish_reason in ("stopped", "eos")
    assert [message["kind"] for message in told] == [
        "start",
        *["step"] * len(generation.steps),
        "end",
    ]
    assert list(play.table()["piece"]) == [step.piece for step in generation.steps]


@pytest.mark.parametrize(
    ("settings", "message"), [({"prompt": " "}, "empty"), ({"prompt": "x", "top_p": 3.0}, "top_p")]
)
def test_the_playground_shows_what_is_wrong(settings, message, moe):
    play = Playground(moe, **settings)
    play.start()
    play.wait(60)
    assert play._messages[-1]["kind"] == "error"
    assert message in play._messages[-1]["text"]
    content, _ = play.answer({"kind": "want"})
    assert content["messages"] == play._messages


def test_an_error_leaves_no_earlier_generation(moe):
    play = Playground(moe, prompt="To be", mode="raw", max_new_tokens=2)
    play.start()
    assert play.wait(60).steps
    play.seed = 2**70
    play.start()
    assert play.wait(60) is None
    assert play._messages[-1] == {
        "kind": "error",
        "text": "seed is 1180591620717411303424; expected -2^63 to 2^64 - 1.",
    }
    assert play.table().empty


def test_a_second_click_on_generate_does_nothing(moe):
    play = Playground(moe, prompt="To be", mode="raw", temperature=1.0, max_new_tokens=400)
    told, begun = [], threading.Event()

    def hear(message):
        told.append(message["kind"])
        begun.set()

    play._tell = hear
    play._on_message(play, {"kind": "generate"}, [])
    assert begun.wait(60)
    play._on_message(play, {"kind": "generate"}, [])
    play._on_message(play, {"kind": "stop"}, [])
    play.wait(60)
    assert told.count("start") == told.count("end") == 1
    assert "error" not in told
