"""The routing view's numbers as DataFrames: one function per panel, of what is selected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from workbench.analysis.exact_tests import beyond_others, uniform_band
from workbench.analysis.router import among, global_choice, pair_factor
from workbench.views.routing.selection import Selection

CONTEXT = 4  # tokens shown on either side


def tokens(selected: Selection) -> pd.DataFrame:
    """One row per kept token: the expert of `group` in `layer`, margin, entropy, surprisal."""
    routing, keep = selected.routing, selected.kept
    frame = _about(selected, keep)
    frame["span"] = routing.column("span")[keep]
    frame["phase"] = routing.column("phase")[keep]
    frame["surprisal_bits"] = routing.surprisal_bits()[keep]
    frame["expert"] = routing.chosen[keep, selected.layer, selected.group]
    probability = routing.probabilities(selected.layer)
    if probability is not None:
        frame["margin"] = routing.margins(selected.layer, probability)[keep, selected.group]
        frame["entropy"] = routing.entropy(probability)[keep]
    return frame


def choices(selected: Selection) -> pd.DataFrame:
    """One row per (kept token, layer, group): the expert."""
    routing, keep = selected.routing, selected.kept
    chosen = routing.chosen[keep]  # [token, layer, slot]
    place = np.indices(chosen.shape)
    about = _about(selected, keep).iloc[place[0].ravel()].reset_index(drop=True)
    return about.assign(layer=place[1].ravel(), group=place[2].ravel(), expert=chosen.ravel())


def load(selected: Selection) -> pd.DataFrame:
    """One row per (layer, expert) over the kept tokens.

    count N and its share N / T of the T tokens (chance: slots / experts, 1/8 in a group of 8);
    load_ratio = share / chance; low and high, the counts that uniform routing gives (exact
    binomial, 95 % for all cells together); others_share, among the tokens left out; beyond:
    outside the band, or with compare="others" beyond a random choice of as many tokens (exact
    hypergeometric, 95 % for all cells together).
    """
    routing, keep = selected.routing, selected.kept
    count = routing.counts(keep)  # [layer, expert]
    kept, cells = int(keep.sum()), count.size
    layer, expert = np.indices(count.shape)
    chance = routing.slots / routing.experts
    low, high = uniform_band(kept, chance, cells)
    total = routing.counts(np.ones_like(keep))
    left = routing.num_tokens - kept
    if selected.compare == "others" and left:
        beyond = beyond_others(count, total, kept, routing.num_tokens, cells)
    else:
        beyond = (count < low) | (count > high)
    share = count / max(1, kept)
    return pd.DataFrame(
        {
            "layer": layer.ravel(),
            "expert": expert.ravel(),
            "group": expert.ravel() // (routing.experts // routing.groups),
            "count": count.ravel(),
            "tokens": kept,
            "share": share.ravel(),
            "load_ratio": share.ravel() / chance,
            "chance": chance,
            "low": low,
            "high": high,
            "others_share": ((total - count) / left if left else np.full(count.shape, np.nan)).ravel(),
            "beyond": beyond.ravel(),
        }
    )  # fmt: skip


def token(selected: Selection) -> pd.DataFrame:
    """The winners of the selected token in `layer`, of all tokens if none is selected.

    probability before selection (chance 1 / experts); margin over the best loser of the group;
    router_scale of the winner; weight = probability * router_scale; in_global_top: whether the
    winner is among the token's most probable experts regardless of groups.
    """
    routing, layer = selected.routing, selected.layer
    everyone = np.arange(routing.num_tokens)
    rows = everyone if selected.token < 0 else [routing.starts[selected.document] + selected.token]
    chosen = routing.chosen[rows, layer].astype(int)  # [row, slot]
    about = _about(selected, np.isin(everyone, rows))
    frame = about.iloc[np.repeat(np.arange(len(about)), routing.slots)].reset_index(drop=True)
    frame["layer"] = layer
    frame["group"] = np.tile(np.arange(routing.slots), len(about))
    frame["expert"] = chosen.ravel()
    probability, weights = routing.probabilities(layer), routing.weights(layer)
    if probability is not None:
        frame["probability"] = np.take_along_axis(probability[rows], chosen, -1).ravel()
        frame["margin"] = routing.margins(layer, probability)[rows].ravel()
        everywhere = global_choice(probability[rows], routing.slots)
        frame["in_global_top"] = among(chosen, everywhere).ravel()
    scales = [document.router_scale for document in routing.documents]
    if all(scale is not None for scale in scales):
        document = routing.column("document")[rows]
        frame["router_scale"] = np.stack(scales)[document[:, None], layer, chosen].ravel()
    if weights is not None:
        frame["weight"] = weights[rows].ravel()
    return frame


def router(selected: Selection) -> pd.DataFrame:
    """Every expert before the selected token in `layer`.

    probability (chance 1 / experts); router_scale; winner, whether it was chosen; in_global_top,
    whether it is among the token's most probable experts regardless of groups.
    """
    routing, layer = selected.routing, selected.layer
    row = routing.starts[selected.document] + selected.token
    expert = np.arange(routing.experts)
    frame = pd.DataFrame({"group": expert // (routing.experts // routing.groups), "expert": expert})
    probability = routing.probabilities(layer, row, row + 1)
    if probability is not None:
        frame["probability"] = probability[0]
    scale = routing.documents[selected.document].router_scale
    if scale is not None:
        frame["router_scale"] = scale[layer]
    frame["winner"] = np.isin(expert, routing.chosen[row, layer])
    if probability is not None:
        frame["in_global_top"] = np.isin(expert, global_choice(probability, routing.slots)[0])
    return frame


def expert(selected: Selection) -> pd.DataFrame:
    """The kept tokens that use the selected expert, most weighted first, with a few around."""
    routing, pieces = selected.routing, selected.routing.pieces
    used = _users(selected)
    frame = _about(selected, used)
    weights = routing.weights(selected.layer)
    if weights is not None:
        slot = (routing.chosen[used, selected.layer] == selected.expert).argmax(-1)
        frame["weight"] = weights[used, slot]
    document, context = routing.column("document"), []
    for place in np.flatnonzero(used):
        near = range(max(0, place - CONTEXT), min(len(pieces), place + CONTEXT + 1))
        context.append("".join(pieces[n] for n in near if document[n] == document[place]))
    frame["context"] = context
    if weights is not None:
        frame = frame.sort_values("weight", ascending=False, kind="stable", ignore_index=True)
    return frame


def words(selected: Selection) -> pd.DataFrame:
    """Pieces that use the selected expert: count, of how many such pieces, and the share."""
    pieces, keep = np.array(selected.routing.pieces, dtype=object), selected.kept
    used = pd.Series(pieces[_users(selected)]).value_counts(sort=False)
    total = pd.Series(pieces[keep]).value_counts(sort=False)
    frame = pd.DataFrame({"piece": used.index, "count": used.to_numpy()})
    frame["of"] = total.reindex(used.index).to_numpy()
    frame["share"] = frame["count"] / frame["of"]
    return frame.sort_values("count", ascending=False, kind="stable", ignore_index=True)


def partners(selected: Selection) -> pd.DataFrame:
    """Experts that are chosen together with the selected one; numbers as in `expert_coactivation`.

    together N(i, j); expected, the count if groups chose independently; lift, their ratio; beyond:
    exact hypergeometric across groups, 95 % for all partners together (False within a group, where
    choices exclude each other). Experts of a group of which a token uses one are left out; of an
    expert that no token uses there is no row.
    """
    routing, keep = selected.routing, selected.kept
    size = routing.experts // routing.groups
    count = routing.counts(keep)[selected.layer]
    together = routing.counts(_users(selected))[selected.layer]
    other = np.arange(routing.experts)
    factor = pair_factor(routing.experts, routing.obeyed_groups, routing.slots)[selected.expert]
    kept, own = int(keep.sum()), int(count[selected.expert])
    other = other[(factor > 0) & (count > 0) & (other != selected.expert) & (own > 0)]
    expected = factor[other] * own * count[other] / max(1, kept)
    together, across = together[other], factor[other] == 1
    beyond = beyond_others(together, count[other], own, kept, max(1, len(other)))
    frame = pd.DataFrame(
        {
            "expert": other,
            "group": other // size,
            "together": together,
            "expected": expected,
            "lift": together / expected,
            "beyond": beyond & across,
        }
    )
    return frame.sort_values("lift", ascending=False, kind="stable", ignore_index=True)


def domains(selected: Selection) -> pd.DataFrame:
    """The selected expert's share in every domain, beside what uniform routing gives."""
    routing = selected.routing
    rows = []
    for label in routing.labels:
        keep = routing.mask(label, selected.span, selected.phase, selected.search)
        kept = int(keep.sum())
        count = int(routing.counts(keep)[selected.layer, selected.expert])
        low, high = uniform_band(kept, routing.slots / routing.experts, len(routing.labels))
        rows.append((label, kept, count, count / max(1, kept), low, high, not low <= count <= high))
    columns = ["domain", "tokens", "count", "share", "low", "high", "beyond"]
    return pd.DataFrame(rows, columns=columns)


def _users(selected: Selection) -> np.ndarray:
    return selected.kept & (selected.routing.chosen[:, selected.layer] == selected.expert).any(-1)


def _about(selected: Selection, rows: np.ndarray) -> pd.DataFrame:
    routing = selected.routing
    about = {"label": routing.column("label")[rows]} if len(routing.documents) > 1 else {}
    about["token"] = routing.column("token")[rows].astype(int)
    return pd.DataFrame(about).assign(piece=np.array(routing.pieces, dtype=object)[rows])


PANELS: dict[str, Callable[[Selection], pd.DataFrame]] = {
    "token": token,
    "router": router,
    "tokens": tokens,
    "map": choices,
    "load": load,
    "expert": expert,
    "words": words,
    "partners": partners,
    "domains": domains,
}
