"""What the redrawn figures of the paper show is what was measured."""

import numpy as np
import pytest

import workbench as wb
from tests.helpers.traces import random_traces
from workbench.errors import TraceError
from workbench.views import (
    coactivation_maps,
    first_layer_load,
    group_frequency,
    imbalance_histogram,
    specialisation_bars,
)
from workbench.views.paper_figures import paper_layers


@pytest.fixture(scope="module")
def traces():
    return random_traces(2, [40, 35, 48, 33], layers=5)


def heights(axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches if bar.get_width() < 1]


def test_the_layers_are_the_first_the_middle_and_the_last():
    assert paper_layers(48) == [0, 23, 47]
    assert paper_layers(4) == [0, 1, 3]
    assert paper_layers(1) == [0]


def test_figure_2b_shows_grouped_routing_as_one_bar_at_zero(traces):
    uniform, everywhere, grouped = imbalance_histogram(traces).axes
    assert heights(grouped)[0] == 1
    assert not any(heights(grouped)[1:])
    assert "0 by construction" in grouped.get_title()
    score = wb.imbalance_score(traces).set_index(["layer", "routing"])["mean"]
    mean = score.xs("global_top_k", level="routing").mean()
    assert f"mean {mean:.3f}" in everywhere.get_title()
    assert sum(heights(uniform)) == pytest.approx(1)
    assert "20,000 batches" in uniform.get_title()
    one = imbalance_histogram(traces, layer=2).axes[1].get_title()
    assert f"mean {score[2, 'global_top_k']:.3f}" in one
    with pytest.raises(TraceError, match="there is no layer 9"):
        imbalance_histogram(traces, layer=9)


def test_figure_7_has_a_row_for_each_domain_and_a_line_at_chance(traces):
    figure = specialisation_bars(traces, ["a", "b", "a", "b"])
    panels = np.array(figure.axes).reshape(2, 3)
    frame = wb.domain_specialisation(traces, ["a", "b", "a", "b"])
    for row, domain in enumerate("ab"):
        for column, layer in enumerate((0, 2, 4)):
            part = frame[(frame["layer"] == layer) & (frame["domain"] == domain)]
            np.testing.assert_allclose(heights(panels[row, column]), 100 * part["share"])
            line = panels[row, column].lines[0].get_ydata()
            assert line[0] == pytest.approx(100 / 3)


def test_figure_8_hatches_what_is_impossible(traces):
    figure = coactivation_maps(traces, layers=[1], members=2)
    axes = figure.axes[0]
    table = axes.images[0].get_array()
    labels = [int(label.get_text()) for label in axes.get_xticklabels()]
    assert labels == [0, 1, 3, 4, 6, 7, 9, 10]
    assert len(axes.patches) == np.isnan(np.ma.filled(table, np.nan)).sum() == 4 * 4
    pairs = wb.expert_coactivation(traces, layer=1).set_index(["expert", "partner"])
    assert table[1, 6] == pytest.approx(100 * pairs.loc[(1, 9), "probability"])


def test_figures_9_and_10_show_shares_of_tokens(traces):
    load = wb.expert_load(traces)
    tokens = sum(trace.num_tokens for trace in traces)
    for axes, layer in zip(group_frequency(traces).axes, (0, 2, 4), strict=True):
        expected = 100 * load[load["layer"] == layer]["count"] / tokens
        np.testing.assert_allclose(heights(axes), expected)
        assert sum(heights(axes)[:3]) == pytest.approx(100)  # one of each group's three
    routed, instead = first_layer_load(traces).axes
    np.testing.assert_allclose(heights(routed), 100 * load[load["layer"] == 0]["count"] / tokens)
    assert heights(instead) != heights(routed)
    assert sum(heights(instead)) == pytest.approx(400)
