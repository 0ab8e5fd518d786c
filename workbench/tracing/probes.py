"""Texts made to ask a model one question."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis import head_scores
from workbench.arguments import require_loaded, whole_number
from workbench.errors import TraceError
from workbench.traces.trace import Trace
from workbench.tracing.engine import TracedEngine


def repeated_random_tokens(
    pangu: TracedEngine, length: int = 48, sequences: int = 5, seed: int = 0
) -> list[Trace]:
    """Traces of random tokens that are said twice: nothing can be predicted but the repetition.

    Each text is the beginning-of-text token and then twice the same different ordinary tokens
    (neither special nor single bytes), drawn uniformly. The first text repeats `length` tokens,
    each further one a token more: a head that always looks the same distance back, and finds the
    repetition of one text by that, misses it in the others.

    Raises
    ------
    TraceError
        For something else than a loaded model; if the vocabulary or the model's context is too
        small for the length.
    """
    require_loaded(pangu)
    length = whole_number("length", length, TraceError, "a number of tokens, at least 2")
    sequences = whole_number("sequences", sequences, TraceError, "a number of texts, at least 1")
    if length < 2:
        raise TraceError(f"length is {length}; expected a number of tokens, at least 2.")
    if sequences < 1:
        raise TraceError(f"sequences is {sequences}; expected a number of texts, at least 1.")
    ordinary = _ordinary_ids(pangu)
    longest = length + sequences - 1
    context = pangu.config.max_position_embeddings
    if longest > len(ordinary) or 2 * longest + 1 > context:
        raise TraceError(
            f"the longest text would repeat {longest} different tokens; the vocabulary has "
            f"{len(ordinary)} ordinary tokens and the context holds {context}. Choose a smaller "
            "length, or fewer sequences."
        )
    random, traces = np.random.default_rng(seed), []
    for size in range(length, longest + 1):
        said = random.choice(ordinary, size, replace=False).tolist()
        traces.append(pangu.trace([pangu.tokenizer.bos_token_id, *said, *said]))
    return traces


def induction_probe(
    pangu: TracedEngine, length: int = 48, sequences: int = 5, seed: int = 0, threshold: float = 0.5
) -> pd.DataFrame:
    """Which heads look at what followed the last time: every head on repeated random tokens.

    On such a text (`repeated_random_tokens`) each token of the repetition has exactly one earlier
    token of the same id and one that followed it; nothing about them can be guessed from grammar
    or place.

    Returns
    -------
    One row per head, strongest first: layer, head, kv_head; induction, the mean attention of the
    tokens of the repetition to the token that followed the same token before; low and high, its
    95 % interval over texts (from 5 texts on); chance, the same on shuffled texts; tagged, see
    `head_scores`; same_token, the attention to the earlier token of the same id; previous_token.

    Source: Olsson et al., In-context Learning and Induction Heads (2022), whose test this is.
    """
    traces = repeated_random_tokens(pangu, length, sequences, seed)
    rows = head_scores(traces, threshold=threshold, seed=seed, long=True)
    keys = ["layer", "head", "kv_head"]
    scores = rows.pivot(index=keys, columns="pattern", values="score").reset_index()
    found = rows[rows["pattern"] == "induction"].rename(columns={"score": "induction"})
    frame = found[[*keys, "induction", "low", "high", "chance", "tagged"]].merge(
        scores[[*keys, "same_token", "previous_token"]], on=keys
    )
    return frame.sort_values("induction", ascending=False, kind="stable", ignore_index=True)


def _ordinary_ids(pangu: TracedEngine) -> np.ndarray:
    """Ids of the vocabulary that are neither special nor single bytes, and that stand for text."""
    size = min(len(pangu.tokenizer), pangu.config.vocab_size)
    pieces = pangu.tokenizer.pieces(range(size))
    special = set(pangu.tokenizer.special_tokens.values())
    return np.array(
        [
            token
            for token, piece in enumerate(pieces)
            if token not in special and piece.strip() and not piece.startswith(("<0x", "<id "))
        ]
    )
