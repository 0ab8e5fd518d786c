"""Widgets in Python: what they refuse, what they tell, and that their scripts agree with them."""

import os
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from tests.helpers.fake_server import fake_server
from workbench.errors import GenerationError, TokenizerError, TraceError
from workbench.views import (
    AttentionView,
    ComparisonView,
    HeadScoresView,
    Playground,
    RoutingView,
    attention_heatmap,
    expert_load_bars,
    routing_heatmap,
)
from workbench.views.figures import expert_colours
from workbench.views.shared import generating, threads


@pytest.fixture(scope="module")
def trace(moe):
    return moe.trace("To be, or not to be $x$")


@pytest.mark.parametrize(
    "view", [RoutingView, AttentionView, HeadScoresView, Playground, ComparisonView]
)
def test_script_and_class_have_the_same_traits(view):
    script = view._esm
    used = set(re.findall(r'model\.(?:get|set)\("(\w+)"', script))
    heard = set(re.findall(r'"change:(\w+)"', script))
    documented = set(re.findall(r"@property \{.+\} (\w+)", script))
    traits = {
        name
        for part in view.__mro__
        if part.__module__.startswith("workbench.")
        for name, trait in vars(part).items()
        if getattr(trait, "metadata", {}).get("sync")
    }
    assert used | heard <= traits == documented
    code = re.sub(r"/\*\*.*?\*/", "", script, flags=re.DOTALL)
    assert [name for name in traits if not re.search(rf'"{name}"|set\(\{{ {name}:', code)] == []
    assert "import " not in code.replace("important", "")
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


@pytest.mark.parametrize(
    "seen",
    [
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    ],
    ids=["deuteranopia", "protanopia", "tritanopia"],
)  # fmt: skip
def test_experts_of_a_group_differ_for_every_kind_of_colour_vision(seen):
    """Machado et al. (2009), severity 1; a CIE76 difference of 2.3 is just noticeable."""
    colours = expert_colours(64, 8)
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = (linear @ np.transpose(seen)).clip(0, 1) @ np.transpose(to_xyz) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).reshape(8, 8, 3)
    difference = np.linalg.norm(lab[:, :, None] - lab[:, None], axis=-1)
    assert difference[:, ~np.eye(8, dtype=bool)].min() > 5
    assert (np.diff(lab[..., 0], axis=1) > 0).all()  # and lightness keeps their order


def test_a_script_that_ends_while_views_generate_ends_quietly(tiny_moe):
    script = f"""
import time
import workbench as wb, workbench.generation.stream
workbench.generation.stream.end_ids = lambda _pangu: set()
one, two, three = (wb.load({str(tiny_moe)!r}, bits=16, device="cpu") for _ in range(3))
views = [wb.AttentionView.live(one, "To be", 500), wb.RoutingView.live(two, "To be", 500)]
views.append(wb.Playground(three, text="To be", max_new_tokens=500))
views[2].start()
time.sleep(0.2)
print([view.running for view in views])
"""
    quiet = os.environ | {"TQDM_DISABLE": "1"}  # a busy machine would show the bar of loading
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=quiet
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "[True, True, True]\n"


@pytest.mark.parametrize("view", [AttentionView, RoutingView])
def test_a_live_view_needs_a_loaded_model_and_a_known_thinking_mode(view, moe, trace, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(TraceError, match=r"expected a loaded model, .*; got Trace"):
        view.live(trace, "hi")
    with fake_server() as script, pytest.raises(TraceError, match="server"):
        view.live(wb.connect(script.url), "hi")
    with pytest.raises(TokenizerError, match="thinking is 'medium'; expected one of"):
        view.live(moe, "hi", thinking="medium")


def request_of(cell, run):
    """What the kernel is asked when a cell runs in JupyterLab."""
    return {"header": {"msg_id": run}, "metadata": {"cellId": cell}}


@pytest.fixture(params=[AttentionView, RoutingView])
def endless(request, moe, monkeypatch):
    """A live view whose first tokens are there, and which does not end of its own accord."""
    monkeypatch.setattr("workbench.generation.stream.end_ids", lambda _pangu: set())
    kernel = SimpleNamespace(saved_sigint_handler=signal.SIG_IGN)
    shell = SimpleNamespace(kernel=kernel, get_parent=lambda: request_of("first cell", "first run"))
    for module in (generating, threads):
        monkeypatch.setattr(module, "get_ipython", lambda: shell)
    begun = threading.Event()

    class Heard(request.param):
        def append(self, *arguments):
            super().append(*arguments)
            begun.set()

    view = Heard.live(moe, "To be", max_new_tokens=450)
    assert begun.wait(60)
    yield view
    view.stop()
    view._thread.join(60)


def test_a_closed_live_view_leaves_the_model_and_what_came(endless, moe):
    endless.close()
    assert not endless.running
    assert not endless._thread.is_alive()
    assert moe.generate("To be", 1).steps
    assert endless.wait(60).num_tokens < 450
    with pytest.raises(GenerationError, match="this view is closed"):
        endless._begin(lambda: None)


@pytest.mark.parametrize("view", [AttentionView, RoutingView])
def test_a_new_run_of_its_cell_replaces_a_live_view(endless, view, moe, monkeypatch):
    shell = generating.get_ipython()
    monkeypatch.setattr(shell, "get_parent", lambda: request_of("first cell", "second run"))
    again = view.live(moe, "To be", max_new_tokens=2)
    assert not endless.running
    assert 0 < endless.trace.num_tokens < 450
    trace = again.wait(60)
    assert trace.num_tokens == trace.prompt_length + 2


@pytest.mark.parametrize(
    "request_now",
    [
        request_of("second cell", "second run"),
        request_of("first cell", "first run"),  # twice in one run
        {"header": {"msg_id": "a click"}, "metadata": {}},
        {},
    ],
)
def test_a_live_view_is_not_in_the_way_of_its_own_cell_alone(
    endless, request_now, moe, monkeypatch
):
    monkeypatch.setattr(generating.get_ipython(), "get_parent", lambda: request_now)
    with pytest.raises(GenerationError, match="this model is already generating"):
        type(endless).live(moe, "To be", max_new_tokens=2)
    assert endless.running


def test_a_thread_of_a_cell_does_not_replace_what_the_cell_began(endless, moe, monkeypatch):
    shell = generating.get_ipython()
    monkeypatch.setattr(shell, "get_parent", lambda: request_of("first cell", "second run"))
    errors = []

    def another():
        try:
            type(endless).live(moe, "To be", max_new_tokens=2)
        except GenerationError as error:
            errors.append(str(error))

    thread = threading.Thread(target=another)
    thread.start()
    thread.join(60)
    assert len(errors) == 1
    assert endless.running


def test_an_interrupt_while_waiting_stops_a_live_view(endless, monkeypatch):
    def interrupted(timeout=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(endless._thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            endless.wait()
    assert endless.wait(60).num_tokens < 450


def test_the_kernels_interrupt_stops_a_live_view(endless):
    generating.get_ipython().kernel.saved_sigint_handler(signal.SIGINT, None)
    assert endless.wait(60).num_tokens < 450


def test_the_last_page_that_goes_stops_a_live_view(endless):
    for kind, page in [("hello", "one"), ("hello", "two"), ("here", "one"), ("bye", "two")]:
        endless._on_message(endless, {"kind": kind, "page": page}, [])
    assert not endless._stop.is_set()
    endless._on_message(endless, {"kind": "bye", "page": "one"}, [])
    assert endless.wait(60).num_tokens < 450


@pytest.mark.parametrize("view", [AttentionView, RoutingView])
def test_a_view_of_a_trace_goes_on_when_its_last_page_is_gone(view, trace):
    shown = view(trace, token=3)
    before = shown.answer({"kind": "want"})[0]
    for kind in ("hello", "bye"):
        shown._on_message(shown, {"kind": kind, "page": "one"}, [])
    assert shown.answer({"kind": "want"})[0] == before
    assert shown.trace is shown.wait() is trace
    assert len(shown.table("tokens" if view is RoutingView else "row")) > 0
