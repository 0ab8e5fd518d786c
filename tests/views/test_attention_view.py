"""The attention view in Python: its maps and tables against whole maps, and what it refuses."""

import threading

import numpy as np
import pytest

from tests.helpers.made_up import attended_trace
from workbench.errors import TraceError
from workbench.views import AttentionView, attention_heatmap
from workbench.views.attention.maps import aggregated, thumbnail_block, thumbnails
from workbench.views.attention.recorded import Recorded


@pytest.fixture(scope="module")
def trace():
    return attended_trace()


def blocks_by_hand(weights, size, sink, every=1):
    """Strongest and mean of each block of a causal map, one block at a time."""
    tokens = len(weights)
    count = -(-tokens // size)
    strongest, mean = np.zeros((count, count)), np.zeros((count, count))
    for i in range(count):
        for j in range(i + 1):
            values = [
                weights[row, column]
                for row in range(i * size, min(tokens, (i + 1) * size))
                for column in range(max(sink, j * size), min(row + 1, (j + 1) * size))
                if row % every == 0
            ]
            if values:
                strongest[i, j], mean[i, j] = max(values, key=abs), np.mean(values)
    return strongest, mean


@pytest.mark.parametrize(("tokens", "size", "sink", "every"), [(23, 1, 1, 1), (23, 4, 0, 1), (150, 6, 2, 3), (70, 7, 1, 1)])  # fmt: skip
def test_blocks_hold_the_strongest_and_the_mean_weight(tokens, size, sink, every):
    trace = attended_trace(tokens=tokens)
    query, key = Recorded.of(trace).head(1, 4)
    expected = blocks_by_hand(trace.attention(1, 4), size, sink, every)
    found = aggregated(query, key, size, sink, every=every)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    minus = Recorded.of(trace).head(2, 1)
    expected = blocks_by_hand(trace.attention(1, 4) - trace.attention(2, 1), size, sink, every)
    found = aggregated(query, key, size, sink, minus, every)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


@pytest.mark.parametrize("how", ["max", "mean"])
def test_small_maps_are_rounded_roots(how):
    trace = attended_trace(tokens=120)
    size, every = thumbnail_block(120)
    assert (size, every) == (3, 1)
    maps = thumbnails(Recorded.of(trace), 2, range(1, 4), how, 1)
    for head, found in zip(range(1, 4), maps, strict=True):
        whole = blocks_by_hand(trace.attention(2, head), size, 1)[how == "mean"]
        np.testing.assert_allclose(found, 255 * np.sqrt(whole[np.tril_indices(40)]), atol=0.51)
    assert thumbnail_block(4096) == (88, 4)


def test_what_the_page_gets_makes_the_weights(trace):
    view = AttentionView(trace)
    content, buffers = view.answer({"kind": "head", "trace": 0, "layer": 2, "head": 5})
    query, key = (np.frombuffer(b, np.float16).astype(float).reshape(23, 8) for b in buffers[:2])
    totals = np.frombuffer(buffers[2], np.float32)
    weights = np.tril(np.exp(query @ key.T / np.sqrt(8) - totals[:, None]))
    np.testing.assert_allclose(weights, trace.attention(2, 5), atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert content["half"]
    wide = attended_trace(dtype=np.float32)
    content, buffers = AttentionView(wide).answer(
        {"kind": "head", "trace": 0, "layer": 0, "head": 0}
    )
    assert not content["half"]
    assert len(buffers[0]) == 4 * 23 * 8


@pytest.mark.parametrize(("tokens", "size"), [(128, None), (129, 1), (512, 1), (513, 2)])
def test_the_picture_of_a_longer_text_comes_with_its_head(tokens, size):
    trace = attended_trace(layers=1, tokens=tokens, heads=2, key_heads=1)
    content, buffers = AttentionView(trace).answer(
        {"kind": "head", "trace": 0, "layer": 0, "head": 1}
    )
    assert content.get("size") == size
    if size is None:
        assert len(buffers) == 3
        return
    strongest, mean = blocks_by_hand(trace.attention(0, 1), size, 1)
    expected = [strongest] if size == 1 else [strongest, mean]
    assert len(buffers) == 3 + len(expected)
    for buffer, whole in zip(buffers[3:], expected, strict=True):
        found = np.frombuffer(buffer, np.float16)
        np.testing.assert_allclose(found, whole[np.tril_indices(len(whole))], rtol=6e-4, atol=1e-7)


def test_tables_hold_the_selected_values(trace):
    view = AttentionView(trace, layer=1, head=3, token=9, pins=[4, 9], zoom=[5, 12, 2, 9])
    weights = trace.attention(1, 3)
    row = view.table()
    np.testing.assert_allclose(row["weight"], np.sort(weights[9, :10])[::-1], atol=1e-6)
    assert row["piece"].tolist() == [trace.pieces[token] for token in row["token"]]
    column = view.table("column").set_index("token")
    np.testing.assert_allclose(column["weight"].sort_index(), weights[9:, 9], atol=1e-6)
    assert column.loc[12, "uniform"] == pytest.approx(1 / 13)
    pins = view.table("pins")
    assert pins.groupby("from_token")["weight"].sum().to_dict() == pytest.approx({4: 1, 9: 1})
    shown = view.table("map").pivot(index="from_token", columns="token", values="weight")
    np.testing.assert_allclose(shown.fillna(0), weights[5:12, 2:9], atol=1e-6)
    heads = view.table("heads").set_index(["layer", "head"])
    assert len(heads) == 18
    for (layer, head), found in heads.iterrows():
        whole = trace.attention(layer, head)[9]
        assert found["token"] == 1 + whole[1:].argmax()
        assert found["weight"] == pytest.approx(whole[1:].max(), abs=1e-6)
        assert found["sink_weight"] == pytest.approx(whole[0], abs=1e-6)
        assert found["key_value_head"] == head // 3


def test_differences_stand_in_the_tables(trace):
    view = AttentionView(trace, layer=1, head=3, token=9, compare="head", other_layer=2)
    expected = trace.attention(1, 3)[9, :10] - trace.attention(2, 1)[9, :10]
    frame = view.table().set_index("token").sort_index()
    np.testing.assert_allclose(frame["difference"], expected, atol=1e-6)
    other = attended_trace(tokens=23, noise=0.2)
    other.arrays["token_ids"][20:] += 50
    view = AttentionView(trace, other, layer=1, head=3, token=9)
    frame = view.table("map").set_index(["from_token", "token"])
    expected = trace.attention(1, 3) - other.attention(1, 3)
    assert frame.loc[(19, 7), "difference"] == pytest.approx(expected[19, 7], abs=1e-6)
    assert np.isnan(frame.loc[(20, 7), "difference"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": 23}, "token 23 is out of range; expected -1 to 22"),
        ({"head": 6}, "head 6 is not recorded"),
        ({"pins": [3, 40]}, "pin 40 is out of range"),
        ({"zoom": [4, 2, 0, 9]}, r"zoom is .* \[first row, end row"),
        ({"sink": -1}, "sink -1 is out of range"),
        ({"compare": "trace"}, "no other trace"),
        ({"other_layer": 3}, "other_layer 3 is not recorded"),
    ],
)
def test_settings_that_cannot_be_are_refused(trace, settings, message):
    with pytest.raises(TraceError, match=message):
        AttentionView(trace, **settings)


def test_traces_that_do_not_go_together_are_refused(trace):
    with pytest.raises(TraceError, match=r"heads 6 and .* has 4"):
        AttentionView(trace, attended_trace(heads=4))
    other = attended_trace()
    other.arrays["token_ids"][:] += 1
    with pytest.raises(TraceError, match="do not begin with the same tokens"):
        AttentionView(trace, other)
    with pytest.raises(TraceError, match="expected a Trace"):
        AttentionView("trace")
    with pytest.raises(TraceError, match="no table 'rows'"):
        AttentionView(trace).table("rows")
    with pytest.raises(TraceError, match="needs a token"):
        AttentionView(trace, token=-1).table()
    with pytest.raises(TraceError, match="head 9 is not recorded"):
        AttentionView(trace).to_html(heads=[1, 9])
    with pytest.raises(TraceError, match="layers are 3; expected"):
        AttentionView(trace).to_html(layers=3)
    with pytest.raises(TraceError, match=r"query is \[3, 1, 5, 8\]"):
        AttentionView(trace).append(["x"], {"query": np.zeros((3, 1, 5, 8)), "key": None})


def test_the_figure_shows_what_is_on_screen(trace):
    view = AttentionView(trace, layer=1, head=3, zoom=[5, 12, 2, 9])
    axes = view.figure().axes
    image = axes[1].images[0].get_array()
    np.testing.assert_allclose(image.filled(0), trace.attention(1, 3)[5:12, 2:9], atol=1e-6)
    first = axes[0].images[0].get_array()
    np.testing.assert_allclose(first[:, 0], trace.attention(1, 3)[5:12, 0], atol=1e-6)
    view.zoom, view.compare, view.other_head = [], "head", 2
    image = view.figure().axes[1].images[0]
    expected = trace.attention(1, 3) - trace.attention(0, 2)
    np.testing.assert_allclose(image.get_array().filled(0)[:, 1:], expected[:, 1:], atol=1e-6)
    assert image.norm.vmin == -image.norm.vmax
    view.compare, view.scale = "none", "row"
    rows = view.figure().axes[1].images[0].get_array().max(-1)
    np.testing.assert_allclose(rows[1:], 1)
    long = attention_heatmap(attended_trace(layers=1, tokens=1030, heads=1, key_heads=1), 0, 0, scale="log")  # fmt: skip
    assert long.axes[1].images[0].get_array().shape == (344, 344)
    assert "3 × 3 tokens" in long.get_suptitle()


def test_the_figure_names_stretches_and_tells_where_turns_begin():
    view = AttentionView(attended_trace(tokens=33))  # turns at 0 and 7; stretches from 16 and 25 on

    def shown() -> tuple:
        axes = view.figure().axes[1]
        lines = [(line.get_xdata()[0], line.get_linestyle()) for line in axes.lines]
        upright = {line for line in lines if line[0]}  # others go across
        names = {text.get_text().strip(): text.get_position()[0] for text in axes.texts}
        return upright, names, axes.get_xlabel()

    lines, names, words = shown()
    assert lines == {(16, "-"), (25, "-"), (7, ":")}
    assert names == {"prompt": 0, "thinking": 16, "answer": 25}
    assert "dotted: start of a turn" in words
    view.zoom = [10, 20, 6, 17]
    assert shown()[:2] == ({(16, "-"), (7, ":")}, {"prompt": 6})


def test_traces_of_one_model_are_named_by_their_precision():
    def names(first, second):
        view = AttentionView(*(attended_trace(receipt=receipt) for receipt in (first, second)))
        title = view.figure().get_suptitle()
        assert f"Attention of {view.names[0]}, layer" in title
        assert f"minus the same head of {view.names[1]}" in title
        return view.names

    def names_of(first, second):
        traces = (attended_trace(model_name=name, receipt={}) for name in (first, second))
        return AttentionView(*traces).names

    four, fp4 = ({"bits": 4, "stored": {"a": "bf16", "b": f"{kind} + bf16"}} for kind in ("nf4", "fp4"))  # fmt: skip
    assert names(four, {"bits": 16}) == ("made-up in 4 bit", "made-up in 16 bit")
    assert names(four, fp4) == ("made-up in bf16 + nf4", "made-up in bf16 + fp4")
    assert names(four, four) == names(four, {}) == ("made-up", "made-up, the other trace")
    here, there = ("/one/folder/small", "/another/folder/small")
    assert names_of(here, "~/large") == ("small", "large")
    assert names_of(here, there) == (here, there)
    assert names_of("owner/small", "another/small") == ("owner/small", "another/small")
    other = attended_trace(model_name="another", receipt=four)
    assert AttentionView(attended_trace(receipt=four), other).names == ("made-up", "another")


def test_blocks_of_a_figure_stand_at_their_tokens():
    trace = attended_trace(layers=1, tokens=1100, heads=1, key_heads=1)
    figure = AttentionView(trace, zoom=[20, 1049, 3, 1027]).figure()
    first, axes = figure.axes[:2]
    size = 3  # 1,029 rows, 1,024 columns: neither is whole blocks
    image = axes.images[0].get_array()
    assert image.shape == (343, 342)
    assert axes.images[0].get_extent() == [3, 3 + 342 * size, 20 + 343 * size, 20]
    assert first.images[0].get_extent() == [0, 1, 20 + 343 * size, 20]
    assert (axes.get_xlim(), axes.get_ylim()) == ((3, 1027), (1049, 20))


def test_a_figure_shows_nothing_where_the_other_trace_has_other_tokens(trace):
    other = attended_trace(tokens=23, noise=0.2)
    other.arrays["token_ids"][20:] += 50
    first = AttentionView(trace, other, layer=1, head=3).figure().axes[0].images[0].get_array()
    expected = trace.attention(1, 3)[:, 0] - other.attention(1, 3)[:, 0]
    np.testing.assert_allclose(first[:20, 0], expected[:20], atol=1e-6)
    assert first.mask[:, 0].tolist() == [False] * 20 + [True] * 3


def test_a_live_view_fills_and_stops(moe):
    told, three = [], threading.Event()
    view = AttentionView.live(moe, "To be", max_new_tokens=5, attention=[0, 2])
    view.running = True  # as while its first tokens are still to come
    assert "not finished" in view.figure().texts[0].get_text()
    trace = view.wait(60)
    assert not view.running
    assert view.recorded.layers == trace.attention_layers == [0, 2]
    assert view.recorded.pieces == trace.pieces
    with pytest.raises(TraceError, match="layer 7 is not recorded"):
        AttentionView.live(moe, "To be", attention=[7])

    class Heard(AttentionView):
        def append(self, *arguments):
            super().append(*arguments)
            told.append(arguments)
            if len(told) == 3:
                three.set()

    view = Heard.live(moe, "To be", max_new_tokens=400)
    assert three.wait(60)
    view.stop()
    trace = view.wait(60)
    assert trace.num_tokens < 400


def test_a_live_view_refuses_what_needs_its_text_and_takes_the_rest(moe):
    for setting in ({"token": 2}, {"pins": [1]}, {"zoom": [0, 2, 0, 2]}):
        with pytest.raises(TraceError, match=f"no text yet; set {next(iter(setting))} after"):
            AttentionView.live(moe, "To be", **setting)
    with pytest.raises(TraceError, match="no layers to show"):
        AttentionView.live(moe, "To be", attention=[])
    with pytest.raises(TraceError, match="sink -1 is out of range; expected 0 or more"):
        AttentionView.live(moe, "To be", sink=-1)
    view = AttentionView.live(moe, "To be", max_new_tokens=2, sink=4, token=-1, pins=[])
    assert view.wait(60).num_tokens >= 3
    assert view.sink == 4
    asked = {"kind": "thumbnails", "layer": 0, "head": 0, "blocks": "max", "sink": 9, "difference": False}  # fmt: skip
    assert not np.any(np.frombuffer(view.answer(asked)[1][0], np.uint8))  # all stand apart


def test_a_page_that_asks_while_the_text_grows_is_told_in_order(monkeypatch):
    trace = attended_trace()
    answering, more, sent = threading.Event(), threading.Event(), []

    class Slow(AttentionView):
        def _everything(self):
            told = super()._everything()
            answering.set()
            more.wait(0.3)  # time enough for a token to come in between
            return told

    view = Slow(trace)
    monkeypatch.setattr(view, "send", lambda content, buffers: sent.append(content))
    asking = threading.Thread(target=view._on_message, args=(view, {"kind": "want"}, []))
    asking.start()
    assert answering.wait(60)
    part = {name: trace.arrays[name][:, :1] for name in ("query", "key")}
    view.append(["x"], part)
    more.set()
    asking.join(60)
    assert [content["kind"] for content in sent] == ["attention", "more"]
    assert sent[1]["start"] == len(sent[0]["pieces"]) == 23


def test_figure_and_tables_are_not_of_a_half_grown_text(monkeypatch):
    trace = attended_trace()
    view, told, readers = AttentionView(trace, token=3), [], []
    plain = view.recorded.append

    def append(*arguments):
        for question in (view.figure, lambda: view.table("row"), lambda: view.table("heads")):
            reader = threading.Thread(target=lambda ask=question: told.append(ask()))
            readers.append(reader)
            reader.start()
        for reader in readers:
            reader.join(0.2)
        assert not told
        plain(*arguments)

    monkeypatch.setattr(view, "send", lambda content, buffers: None)
    monkeypatch.setattr(view.recorded, "append", append)
    view.append(["x"], {name: trace.arrays[name][:, :1] for name in ("query", "key")})
    for reader in readers:
        reader.join(60)
    assert len(told) == len(readers)


def test_a_head_is_whole_though_tokens_come_while_it_is_read(trace):
    recorded = Recorded.of(trace)
    part = {name: trace.arrays[name][:, :1] for name in ("query", "key")}

    class Growing(dict):
        def __getitem__(self, name):
            recorded._parts.append(part)
            return super().__getitem__(name)

    recorded._parts = [Growing(recorded._parts[0])]
    query, key = recorded.head(1, 3)
    assert len(query) == len(key) == 23


def test_a_page_saved_while_the_model_generates_does_not_wait_for_more(trace):
    view = AttentionView(trace)
    view.running = True
    assert '"running": false' in view.to_html()
    assert view.running
