"""What heads attend to."""

from __future__ import annotations

import pandas as pd

from workbench.traces.trace import Trace


def attention_to(trace: Trace, layer: int, head: int, token: int, top: int = 10) -> pd.DataFrame:
    """The tokens that one token attends to most in one head.

    Returns
    -------
    At most `top` rows, most attended first: token, piece, weight (0 to 1), uniform (the weight if
    attention were spread evenly over the token and all before it).

    Raises
    ------
    TraceError
        As `trace.attention`, which also counts negative numbers from the end.
    """
    weights = trace.attention(layer, head, rows=[token])[0]
    token = token % trace.num_tokens
    order = weights[: token + 1].argsort()[::-1][:top]
    return pd.DataFrame(
        {
            "token": order,
            "piece": [trace.pieces[index] for index in order],
            "weight": weights[order],
            "uniform": 1 / (token + 1),
        }
    )
