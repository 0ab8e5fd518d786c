"""What kind of head each head is: how much of its attention falls on a pattern, and by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from inspect import signature
from numbers import Real

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.analysis.attention_sums import IDENTITY, AttentionSums, Pattern, attention_sums
from workbench.analysis.selection import Where, token_mask
from workbench.analysis.statistics import bootstrap, divided
from workbench.arguments import whole_number
from workbench.errors import TraceError
from workbench.traces.trace import Trace

PATTERNS = {
    "previous_token": "the previous token",
    "first_token": "the first token (in many models an attention sink)",
    "own_token": "the token itself",
    "same_token": "earlier tokens of the same id",
    "induction": "tokens that follow an earlier token of the same id",
    "local": "the last tokens, including the token itself",
    "uniform": "all tokens evenly",
}
THRESHOLDS = dict.fromkeys(PATTERNS, 0.5) | {"uniform": 0.8}
MEASURES = ("entropy_bits", "entropy_normalised", "mean_distance")
MINIMUM_QUERIES = 10  # a mean over fewer query tokens earns no tag


def head_scores(
    traces: Trace | Sequence[Trace],
    patterns: Mapping[str, Pattern] | None = None,
    *,
    window: int = 8,
    threshold: float | Mapping[str, float] | None = None,
    shuffles: int = 20,
    where: Where = None,
    seed: int = 0,
    long: bool = False,
) -> pd.DataFrame:
    """How much of every head's attention falls on a pattern, beside what chance would give.

    A pattern names, for each query token q, the key tokens k ≤ q that it means. Its score is

        mean over the query tokens for which it names some key of Σ_k attention(q, k)

    from 0 to 1, over the query tokens of all traces together (tokens are numbered from 0):

    ==============  =============================================  ==============================
    score           keys                                           chance
    ==============  =============================================  ==============================
    previous_token  k = q - 1                                      even attention
    first_token     k = 0, q > 0                                   even attention
    own_token       k = q, q > 0                                   even attention
    local           q - window < k ≤ q, for q ≥ window             even attention
    same_token      k < q and id(k) = id(q)                        shuffled text
    induction       k < q and id(k - 1) = id(q)                    shuffled text
    your own        those you name                                 even attention
    uniform         none: Σ_k min(attention(q, k), 1 / (q + 1)),   attention to one token alone
                    q > 0, the overlap with even attention
    ==============  =============================================  ==============================

    *Even attention* gives each of the q + 1 tokens 1 / (q + 1): the right comparison for a pattern
    of places. Places say nothing about ids, and a head that looks at the last tokens meets equal
    ids without looking for them; so for patterns of ids chance is the mean score of the same
    attention on the same tokens in random order, the first kept in its place. What it does not
    remove: real texts repeat themselves at typical distances, which a shuffled text does not.
    `induction_probe` has a text without that. *Attention to one token alone*: mean of 1 / (q + 1).

    Parameters
    ----------
    traces
        One trace or several of one model, recorded with attention.
    patterns
        Further patterns by name: a boolean array [query, key] (for one trace), or a function of
        token numbers, query [row, 1] and key [key], to booleans that broadcast to [row, key], such
        as ``lambda query, key: key == query - 2``. Keys after the query are ignored.
    window
        Tokens that `local` means.
    threshold
        A head is tagged with a pattern where (score - chance) / (1 - chance) reaches the
        threshold, at least 10 query tokens were looked at, and, for patterns of ids, the score is
        above that of every shuffled text. A number for all patterns, or {pattern: number}; by
        default 0.5, for `uniform` 0.8.
    shuffles
        Random orders of the text.
    where
        Which query tokens; see `token_mask`.
    seed
        Of the random orders.
    long
        One row per head and pattern, with everything that is known of it.

    Returns
    -------
    One row per (layer, head) with its kv_head, the key-value head that it shares: tags, joined by
    ", "; every score and, in columns ending in _chance, its chance; entropy_bits, the mean over
    q > 0 of H = -Σ a log2 a; entropy_normalised, the mean of H / log2(q + 1), 1 for even attention;
    mean_distance, the mean of Σ_k a (q - k) in tokens. NaN where no query token has such keys.
    `frame.attrs` tells the texts, the window, the thresholds and how many query tokens each score
    is of.

    With `long` one row per (layer, head, pattern): kv_head, score, chance; above_chance,
    (score - chance) / (1 - chance); low and high, a 95 % interval of the score over traces (from
    5 traces on, else NaN); query_tokens, how many were looked at; tagged.

    Raises
    ------
    TraceError
        Without attention; for traces of different models or recorded layers; for a pattern that
        gives no booleans, or a name that is taken or holds ", ".

    Notes
    -----
    Scores describe where a head looks on this text. They do not say what it does with it: a head
    that attends to a token may copy nothing from it.

    Sources: Olsson et al., In-context Learning and Induction Heads (2022), for previous-token and
    induction heads; Xiao et al., Efficient Streaming Language Models with Attention Sinks (2023).
    """
    measured = _measure(traces, patterns or {}, window, shuffles, where, seed)
    tagged = _tags(measured, threshold)
    layers, heads = measured.layers, measured.heads
    frame = pd.DataFrame(
        {
            "layer": np.repeat(layers, heads),
            "head": np.tile(np.arange(heads), len(layers)),
            "kv_head": np.tile(np.arange(heads) // measured.group, len(layers)),
        }
    )
    if long:
        return _long(frame, measured, tagged)
    names = list(measured.score)
    frame["tags"] = [
        ", ".join(name for name, there in zip(names, row, strict=True) if there)
        for row in np.stack([tagged[name].ravel() for name in names], axis=-1)
    ]
    for name in names:
        frame[name] = measured.score[name].ravel()
    for name in names:
        frame[f"{name}_chance"] = measured.chance[name].ravel()
    for name in MEASURES:
        frame[name] = measured.measures[name].ravel()
    frame.attrs = {
        "texts": measured.texts,
        "window": window,
        "threshold": {name: _least(name, threshold) for name in names},
        "query_tokens": measured.queries,
    }
    return frame


def texts_of(traces: Trace | Sequence[Trace]) -> list[str]:
    """Model and digest of the token ids of each text, ascending: what scores are of."""
    found = [traces] if isinstance(traces, Trace) else traces
    digests = (sha256(np.asarray(t.token_ids, "<i4").tobytes()).hexdigest() for t in found)
    return sorted(f"{t.model_name} {d[:16]}" for t, d in zip(found, digests, strict=True))


# -- inside -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """Means over the query tokens of all traces; arrays are [layer, head]."""

    texts: list[str]
    layers: list[int]
    heads: int
    group: int  # query heads of a key-value head
    score: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]
    highest: dict[str, np.ndarray]  # of all shuffled texts, for patterns of ids
    interval: dict[str, tuple[np.ndarray, np.ndarray]]
    queries: dict[str, int]
    measures: dict[str, np.ndarray]


def _measure(
    traces: Trace | Sequence[Trace],
    patterns: Mapping[str, Pattern],
    window: int,
    shuffles: int,
    where: Where,
    seed: int,
) -> _Measured:
    found = _require(traces, patterns)
    window = whole_number("window", window, TraceError, "a number of tokens, at least 1")
    shuffles = whole_number("shuffles", shuffles, TraceError, "a number of random orders")
    if window < 1 or shuffles < 1:
        raise TraceError(f"window is {window} and shuffles is {shuffles}; expected at least 1.")
    first = found[0]
    work = sum(trace.num_tokens for trace in found) * len(first.attention_layers)
    with tqdm(total=work, desc="heads", unit="row", delay=1, leave=False) as bar:
        parts = [
            attention_sums(t, token_mask(t, where), window, patterns, shuffles, seed + n, bar)
            for n, t in enumerate(found)
        ]
    if not sum(part.queries for part in parts):
        raise TraceError(f"where={where!r} matches no query token after the first token of a text.")
    score, chance, highest, interval, queries = {}, {}, {}, {}, {}
    for name in [*PATTERNS, *patterns]:
        on, rows, null = _per_document(name, parts)
        mean = divided(on.sum(0), rows.sum(0))  # [layer, head, draw]
        score[name], queries[name] = mean[..., 0], int(rows[:, 0].sum())
        if name in IDENTITY:
            known = np.isfinite(
                mean[0, 0, 1:]
            )  # an order in which nothing is repeated has no score
            drawn = mean[..., 1:][..., known]
            missing = np.full(score[name].shape, np.nan)
            chance[name] = drawn.mean(-1) if known.any() else missing
            highest[name] = drawn.max(-1) if known.any() else missing
        else:
            level = divided(null.sum(0), rows.sum(0))[0]
            chance[name] = np.full(score[name].shape, level)
        interval[name] = bootstrap(
            lambda above, below: divided(above, below[:, None, None]), on[..., 0], rows[:, 0]
        )
    total = sum(part.queries for part in parts)
    sums = [sum(getattr(part, key) for part in parts) for key in ("bits", "normalised", "distance")]
    measures = dict(zip(MEASURES, (value / total for value in sums), strict=True))
    group = first.num_heads // first.num_key_value_heads
    layers = first.attention_layers
    return _Measured(texts_of(found), layers, first.num_heads, group, score, chance, highest, interval, queries, measures)  # fmt: skip


def _per_document(
    name: str, parts: list[AttentionSums]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums on a pattern [document, layer, head, draw], its query tokens [document, draw], and the
    sums that chance gives where chance is not a shuffled text [document, draw]."""
    if name == "uniform":
        on = np.stack([part.overlap[..., None] for part in parts])
        rows = np.array([[part.queries] for part in parts])
        return on, rows, np.array([[part.floor] for part in parts])
    on = np.stack([part.on[name] for part in parts])
    rows = np.stack([part.rows[name] for part in parts])
    return on, rows, np.stack([part.even[name] for part in parts])


def _tags(
    measured: _Measured, threshold: float | Mapping[str, float] | None
) -> dict[str, np.ndarray]:
    """Pattern → [layer, head] bool."""
    given = threshold if isinstance(threshold, Mapping) else {}
    if unknown := given.keys() - measured.score.keys():
        raise TraceError(
            f"threshold names {sorted(unknown)[0]!r}; expected one of {', '.join(measured.score)}."
        )
    alone = [] if threshold is None or threshold is given else [threshold]
    for value in [*alone, *given.values()]:
        if not isinstance(value, Real) or np.isnan(value):
            raise TraceError(
                f"threshold is {value!r}; expected a fraction of the distance from chance to 1, such as "
                "0.5, or {pattern: share}."
            )
    tagged = {}
    for name, score in measured.score.items():
        reached = _above(score, measured.chance[name]) >= _least(name, threshold)  # NaN: False
        if name in IDENTITY:
            reached &= score > measured.highest[name]
        tagged[name] = reached & (measured.queries[name] >= MINIMUM_QUERIES)
    return tagged


def _least(name: str, threshold: float | Mapping[str, float] | None) -> float:
    if isinstance(threshold, Real):
        return float(threshold)
    return float((threshold or {}).get(name, THRESHOLDS.get(name, 0.5)))


def _above(score: np.ndarray, chance: np.ndarray) -> np.ndarray:
    return divided(score - chance, 1 - chance)


def _long(frame: pd.DataFrame, measured: _Measured, tagged: dict[str, np.ndarray]) -> pd.DataFrame:
    parts = []
    for name, score in measured.score.items():
        chance, (low, high) = measured.chance[name], measured.interval[name]
        columns = {
            "pattern": name,
            "score": score.ravel(),
            "chance": chance.ravel(),
            "above_chance": _above(score, chance).ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "query_tokens": measured.queries[name],
            "tagged": tagged[name].ravel(),
        }
        parts.append(frame.assign(**columns))
    return pd.concat(parts, ignore_index=True).sort_values(
        ["layer", "head"], kind="stable", ignore_index=True
    )


def _require_two_arguments(name: str, pattern: Pattern) -> None:
    try:
        arguments = signature(pattern)
    except ValueError:  # NumPy's functions do not tell
        return
    try:
        arguments.bind(None, None)
    except TypeError:
        raise TraceError(
            f"pattern {name!r} is a function of {arguments}; expected one of (query, key), for "
            "example lambda query, key: key == query - 2."
        ) from None


def _require(traces: Trace | Sequence[Trace], patterns: Mapping[str, Pattern]) -> list[Trace]:
    found = [traces] if isinstance(traces, Trace) else list(traces)
    if not found or not all(isinstance(trace, Trace) for trace in found):
        raise TraceError("expected a trace, or a list of at least one trace.")
    first = found[0]
    for trace in found:
        if not trace.attention_layers:
            raise TraceError(
                "this trace has no attention: it was recorded with attention=None. "
                'Trace again with attention="all" or with a list of layers.'
            )
        for what in ("num_heads", "num_key_value_heads", "attention_layers"):
            one, other = getattr(first, what), getattr(trace, what)
            if one != other:
                raise TraceError(
                    f"{what} is {one} of a trace of {first.model_name} and {other} of another of "
                    f"{trace.model_name}; score traces of one model, recorded in the same way."
                )
        if trace.num_tokens < 2:
            raise TraceError("a text of one token can only attend to itself; pass a longer one.")
    if not isinstance(patterns, Mapping):
        raise TraceError(f"patterns is {patterns!r}; expected {{name: pattern}}.")
    taken = [*PATTERNS, *MEASURES, "layer", "head", "kv_head", "tags"]
    for name, pattern in patterns.items():
        if not isinstance(name, str) or not name or ", " in name:
            raise TraceError(
                f'a pattern cannot be called {name!r}; expected a name without ", ", which separates '
                "the tags of a head."
            )
        if name in taken or name.endswith("_chance"):
            raise TraceError(f"the name {name!r} is taken; call the pattern something else.")
        if callable(pattern):
            _require_two_arguments(name, pattern)
        elif len(found) > 1:
            raise TraceError(
                f"pattern {name!r} is an array, which fits one text; expected a function of "
                "(query, key) for several traces."
            )
    return found
