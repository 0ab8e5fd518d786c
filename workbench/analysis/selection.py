"""Which tokens a measure looks at: one `where` for all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.errors import TraceError
from workbench.traces.trace import Trace

SPANS = ("prompt", "thinking", "answer")
PHASES = ("prefill", "decode")
Where = str | np.ndarray | Callable[[Trace], np.ndarray] | None


def token_mask(trace: Trace, where: Where = None) -> np.ndarray:
    """[token] bool: the tokens of a trace that a measure looks at.

    Parameters
    ----------
    where
        None for every token; a span, "prompt", "thinking" or "answer"; a phase, "prefill" (tokens
        of the prompt, read at once) or "decode" (generated one by one); several of these joined
        by "+" for their intersection, such as "thinking+decode"; a boolean array with one value
        per token; or a function from a trace to such an array, for example
        ``lambda trace: [piece.strip().isdigit() for piece in trace.pieces]``.

    Raises
    ------
    TraceError
        For any other word, or an array of another length or type.
    """
    if where is None:
        return np.ones(trace.num_tokens, dtype=bool)
    if isinstance(where, str):
        mask = np.ones(trace.num_tokens, dtype=bool)
        for word in where.split("+"):
            mask &= _of_word(trace, word.strip())
        return mask
    mask = np.asarray(where(trace) if callable(where) else where)
    if mask.shape != (trace.num_tokens,) or mask.dtype != bool:
        raise TraceError(
            f"where gave {mask.dtype} values of shape {mask.shape}; expected one boolean for each "
            f"of the {trace.num_tokens} tokens, shape ({trace.num_tokens},)."
        )
    return mask


def _of_word(trace: Trace, word: str) -> np.ndarray:
    if word in PHASES:
        generated = np.arange(trace.num_tokens) >= trace.prompt_length
        return generated if word == "decode" else ~generated
    if word in SPANS:
        mask = np.zeros(trace.num_tokens, dtype=bool)
        for span in trace.spans:
            if span["kind"] == word:
                mask[span["start"] : span["end"]] = True
        return mask
    raise TraceError(
        f"where is {word!r}; expected a span ({', '.join(SPANS)}), a phase ({', '.join(PHASES)}), "
        "an array of booleans, or a function from a trace to one."
    )
