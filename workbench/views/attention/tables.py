"""The attention view's numbers as DataFrames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from workbench.views.attention.selection import Selection


def row(selection: Selection, token: int | None = None) -> pd.DataFrame:
    """What a token attends to, most attended first (by difference, where heads are compared).

    token, piece, weight, uniform (the weight if attention were spread evenly over the token and
    all before it); other_weight and difference while something is compared.
    """
    token = selection.token if token is None else token
    weights, other = selection.weights([token])
    reached = np.arange(token + 1)
    part = None if other is None else other[0, reached]
    return _ranked(
        selection, reached, weights[0, reached], part, np.full(len(reached), 1 / (token + 1))
    )


def column(selection: Selection) -> pd.DataFrame:
    """Which tokens attend to `selection.token`; columns as in `row`."""
    token = selection.token
    after = np.arange(token, selection.recorded.num_tokens)
    weights, other = selection.weights(after)
    part = None if other is None else other[:, token]
    return _ranked(selection, after, weights[:, token], part, 1 / (after + 1))


def pins(selection: Selection) -> pd.DataFrame:
    """The rows of all pinned tokens, one below the other; from_token and from_piece say whose."""
    frames = [row(selection, pin).assign(from_token=pin) for pin in selection.pins]
    if not frames:
        names = ["from_token", "from_piece", "token", "piece", "weight", "uniform"]
        return pd.DataFrame(columns=names)
    frame = pd.concat(frames, ignore_index=True)
    frame.insert(
        0, "from_piece", [selection.recorded.pieces[token] for token in frame["from_token"]]
    )
    frame.insert(0, "from_token", frame.pop("from_token"))
    return frame


def whole_map(selection: Selection) -> pd.DataFrame:
    """Every possible weight in the zoomed part: from_token, token, weight, and the comparison."""
    top, bottom, left, right = selection.part
    rows, columns = np.arange(top, bottom), np.arange(left, right)
    weights, other = selection.weights(rows)
    possible = columns <= rows[:, None]
    from_token, token = np.broadcast_arrays(rows[:, None], columns)
    frame = pd.DataFrame(
        {
            "from_token": from_token[possible],
            "token": token[possible],
            "weight": weights[:, left:right][possible],
        }
    )
    if other is not None:
        frame["other_weight"] = other[:, left:right][possible]
        frame["difference"] = frame["weight"] - frame["other_weight"]
    return frame


def heads(selection: Selection) -> pd.DataFrame:
    """What `selection.token` attends to most in every head, first tokens (`selection.sink`) left out.

    layer, head, key_value_head, sink_weight (on the first tokens), token, piece and weight of the
    strongest other; NaN and -1 where there is none.
    """
    recorded, found = selection.recorded, []
    for layer in recorded.layers:
        for head in range(recorded.heads):
            weights = recorded.rows(layer, head, np.array([selection.token]))[
                0, : selection.token + 1
            ]
            rest = weights[selection.sink :]
            best = selection.sink + int(rest.argmax()) if len(rest) else -1
            found.append(
                {
                    "layer": layer,
                    "head": head,
                    "key_value_head": head // recorded.group_size,
                    "sink_weight": weights[: selection.sink].sum(),
                    "token": best,
                    "piece": recorded.pieces[best] if len(rest) else "",
                    "weight": weights[best] if len(rest) else np.nan,
                }
            )
    return pd.DataFrame(found)


def _ranked(
    selection: Selection,
    tokens: np.ndarray,
    weight: np.ndarray,
    other: np.ndarray | None,
    uniform: np.ndarray,
) -> pd.DataFrame:
    columns = {
        "token": tokens,
        "piece": [selection.recorded.pieces[token] for token in tokens],
        "weight": weight,
    }
    if other is not None:
        columns |= {"other_weight": other, "difference": weight - other}
    frame = pd.DataFrame({**columns, "uniform": uniform})
    size = frame["weight"] if other is None else frame["difference"].abs()
    order = (-size.to_numpy()).argsort(kind="stable")
    return frame.iloc[order].reset_index(drop=True)


PANELS: dict[str, Callable[[Selection], pd.DataFrame]] = {
    "row": row,
    "column": column,
    "pins": pins,
    "map": whole_map,
    "heads": heads,
}
