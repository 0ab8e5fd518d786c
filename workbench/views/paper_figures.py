"""The figures of "Pangu Pro MoE" (arXiv 2505.21411), redrawn for any traces or corpus.

A dashed line is what uniform routing would give; the grey band holds 95 % of what it would give for
so many independent tokens. Bars within the band say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbench.analysis import (
    domain_specialisation,
    expert_coactivation,
    expert_load,
    imbalance_distribution,
)
from workbench.analysis.documents import Source, documents
from workbench.errors import TraceError
from workbench.traces.documents import BATCH
from workbench.views.figures import expert_colours
from workbench.views.shared.printing import PrintFigure

GROUPED, GLOBAL, CHANCE = "#b4441c", "#2a6f97", "#8d8d8d"


def paper_layers(num_layers: int) -> list[int]:
    """The first, the middle and the last layer: 0, 23 and 47 of 48."""
    return sorted({0, (num_layers - 1) // 2, num_layers - 1})


def imbalance_histogram(source: Source, layer: int | None = None) -> Figure:
    """Figure 2b: how often 16 tokens load 8 devices how unevenly.

    IS(X) = (max_i T_i - min_i T_i) / |X|. Grouped routing is one bar at 0, by construction; beside
    it what a global top-k of the same router's scores would give for the same tokens, and the Monte
    Carlo of a uniformly random top-k.

    Parameters
    ----------
    layer
        Only this one; all layers together by default.
    """
    frame = imbalance_distribution(source)
    if layer is not None:
        frame = _of_layer(frame, layer)
    # the random batches are the same for every layer: they are counted once
    again = (frame["routing"] == "uniform") & (frame["layer"] != frame["layer"].iloc[0])
    total = frame[~again].groupby(["routing", "score"], sort=False)["batches"].sum()
    styles = {
        "uniform": ("uniform random top-k, Monte Carlo", CHANCE, None),
        "global_top_k": ("global top-k of this router's scores", GLOBAL, None),
        "grouped": ("one of each group, as routed: 0 by construction", GROUPED, "//"),
        "as_routed": ("as routed", GROUPED, "//"),
    }
    routings = [name for name in styles if name in total.index.get_level_values("routing")]
    figure = PrintFigure(figsize=(8, 1.5 * len(routings) + 0.5), layout="constrained")
    panels = figure.subplots(len(routings), 1, squeeze=False, sharex=True)[:, 0]
    for axes, name in zip(panels, routings, strict=True):
        batches = total[name]
        if not batches.sum():
            raise TraceError("no document has 16 tokens: there is no whole batch to score.")
        score, probability = batches.index.to_numpy(), (batches / batches.sum()).to_numpy()
        label, colour, hatch = styles[name]
        axes.bar(score, probability, 0.9 / BATCH, color=colour, hatch=hatch, edgecolor="white")
        axes.set_title(
            f"{label}: mean {score @ probability:.3f} ({batches.sum():,} batches)", fontsize=9
        )
        axes.set_ylabel("share", fontsize=8)
        axes.tick_params(labelsize=7)
    seen = total[total > 0].index.get_level_values("score").max()
    panels[-1].set_xlim(-1 / BATCH, seen + 1 / BATCH)
    where = "all layers" if layer is None else f"layer {layer}"
    panels[-1].set_xlabel(f"imbalance score of {BATCH} tokens, {where}", fontsize=9)
    return figure


def specialisation_bars(
    source: Source, labels: Sequence[str] | None = None, layers: Sequence[int] | None = None
) -> Figure:
    """Figure 7: percentage of each domain's tokens that use each expert, N(e,D) / N(D).

    Rows are domains, columns layers (first, middle and last by default); dashed k / E.
    """
    found = documents(source, labels)
    frame = domain_specialisation(source, labels)
    layers = paper_layers(found.num_moe_layers) if layers is None else list(layers)
    domains = list(dict.fromkeys(frame["domain"]))
    figure = PrintFigure(figsize=(4 * len(layers), 1.5 * len(domains) + 0.6), layout="constrained")
    panels = figure.subplots(len(domains), len(layers), squeeze=False, sharex=True, sharey=True)
    for row, domain in enumerate(domains):
        for column, layer in enumerate(layers):
            part = _of_layer(frame, layer)
            part = part[part["domain"] == domain]
            axes = panels[row, column]
            _expert_bars(axes, part["share"], part["tokens"].iloc[0], found)
            title = f"{domain}, {part['tokens'].iloc[0]:,} tokens"
            axes.set_title(title, fontsize=8)
            if row == len(domains) - 1:
                axes.set_xlabel(f"expert of layer {layer}", fontsize=8)
    figure.supylabel("% of the domain's tokens", fontsize=9)
    return figure


def coactivation_maps(
    source: Source,
    layers: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    members: int = 4,
) -> Figure:
    """Figure 8: probability that two experts are active for one token, in percent.

    Of the first 4 groups (or those given) the first 4 experts: 0-3, 8-11, 16-19 and 24-27 of 64.
    Hatched: two experts of one group, which no token can use together.
    """
    found = documents(source)
    layers = paper_layers(found.num_moe_layers) if layers is None else list(layers)
    size = found.num_experts // found.num_groups
    groups = range(min(4, found.num_groups)) if groups is None else groups
    shown = [group * size + member for group in groups for member in range(min(members, size))]
    figure = PrintFigure(figsize=(4.2 * len(layers), 4), layout="constrained")
    panels = figure.subplots(1, len(layers), squeeze=False)[0]
    tables = []
    for layer in layers:
        frame = expert_coactivation(source, layer)
        table = frame.pivot(index="expert", columns="partner", values="probability")
        tables.append(100 * table.reindex(index=shown, columns=shown).to_numpy())
    top = max(float(np.nanmax(table)) for table in tables) or 1.0
    for axes, layer, table in zip(panels, layers, tables, strict=True):
        image = axes.imshow(table, cmap="Blues", vmin=0, vmax=top)
        for row, column in np.argwhere(np.isnan(table)):
            axes.add_patch(_hatched(column, row))
        axes.set_xticks(range(len(shown)), shown, fontsize=6, rotation=90)
        axes.set_yticks(range(len(shown)), shown, fontsize=6)
        axes.set_title(f"layer {layer}", fontsize=9)
    chance = 100 * (found.num_experts_per_tok / found.num_experts) ** 2
    figure.colorbar(image, ax=panels.tolist(), shrink=0.8, label="% of tokens that use both")
    figure.suptitle(
        f"Experts used together, {int(found.tokens.sum()):,} tokens; uniform routing {chance:.2f} %; "
        "hatched: one group, impossible",
        fontsize=9,
    )
    return figure


def group_frequency(source: Source, layers: Sequence[int] | None = None) -> Figure:
    """Figure 9: how often each expert is the one that its group gives; dashed 1 / (E / M).

    A group's bars sum to 100 %: every token uses one of them (k / M where a group gives more).
    """
    found = documents(source)
    layers = paper_layers(found.num_moe_layers) if layers is None else list(layers)
    frame = expert_load(source)
    figure = PrintFigure(figsize=(10, 1.9 * len(layers) + 0.4), layout="constrained")
    panels = figure.subplots(len(layers), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, layer in zip(panels, layers, strict=True):
        share = _of_layer(frame, layer)["count"] / found.tokens.sum()
        _expert_bars(axes, share, int(found.tokens.sum()), found)
        size = found.num_experts // found.num_groups
        for border in range(1, found.num_groups):
            axes.axvline(border * size - 0.5, color="black", linewidth=0.4)
        axes.set_ylabel(f"layer {layer}, %", fontsize=8)
    panels[-1].set_xlabel("expert; lines separate groups")
    panels[0].set_title(
        f"Frequency within each group, {int(found.tokens.sum()):,} tokens", fontsize=9
    )
    return figure


def first_layer_load(source: Source) -> Figure:
    """Figure 10: percentage of tokens that use each expert of the first MoE layer.

    The paper sets Pangu beside DeepSeek-V2, which chooses without groups; here the same router's
    scores are used both ways: as routed, and as a global top-k (where scores were recorded).
    """
    found = documents(source)
    tokens = int(found.tokens.sum())
    loads = {"as routed": found.per_document("count")}
    if found.has("global_count"):
        loads["global top-k of the same scores"] = found.per_document("global_count")
    figure = PrintFigure(figsize=(10, 1.9 * len(loads) + 0.4), layout="constrained")
    panels = figure.subplots(len(loads), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, (name, load) in zip(panels, loads.items(), strict=True):
        share = load.sum(0)[0] / tokens
        _expert_bars(axes, share, tokens, found)
        axes.set_title(f"{name}: at most {100 * share.max():.1f} %", fontsize=9)
        axes.set_ylabel("% of tokens", fontsize=8)
    panels[-1].set_xlabel(f"expert of the first MoE layer, {tokens:,} tokens")
    return figure


# -- inside -------------------------------------------------------------------------------------


def _expert_bars(axes, share: Sequence[float], tokens: int, found) -> None:
    """Percentages per expert, in the groups' colours, over the band of chance."""
    chance = found.num_experts_per_tok / found.num_experts
    spread = 1.96 * np.sqrt(chance * (1 - chance) / max(1, tokens))
    axes.axhspan(100 * (chance - spread), 100 * (chance + spread), color="0.85", zorder=0)
    colours = expert_colours(found.num_experts, found.num_groups)
    axes.bar(np.arange(found.num_experts), 100 * np.asarray(share), color=colours, width=0.9)
    axes.axhline(100 * chance, color="black", linestyle="--", linewidth=0.8)
    axes.tick_params(labelsize=7)


def _hatched(column: int, row: int) -> Rectangle:
    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor="0.93", edgecolor="0.7", hatch="///", linewidth=0
    )


def _of_layer(frame: pd.DataFrame, layer: int) -> pd.DataFrame:
    part = frame[frame["layer"] == layer]
    if part.empty:
        raise TraceError(f"there is no layer {layer}; there are {frame['layer'].nunique()}.")
    return part
