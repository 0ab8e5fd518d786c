"""One step: the token that is drawn, or was given, and what else the model would have said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, log
from typing import Any

import torch

from workbench.errors import GenerationError
from workbench.generation.drawing import Drawer, Drawn
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Alternative, Step


class Chooser:
    """Chooses tokens from logits and describes each choice.

    Parameters
    ----------
    tokenizer : PanguTokenizer
    alternatives
        So many of the most probable tokens are told at every step.
    """

    def __init__(self, tokenizer: Any, sampling: Sampling, alternatives: int) -> None:
        self._tokenizer, self._sampling, self._num_alternatives = tokenizer, sampling, alternatives
        self._drawer = Drawer(sampling)

    def choose(
        self, logits: torch.Tensor, token_ids: Sequence[int], place: int, given: int | None = None
    ) -> Step:
        """The step that draws a token, or takes the one that is given; text and span come later.

        Parameters
        ----------
        logits
            [1, vocabulary], float32: after `token_ids`, prompt and answer until now.
        place
            Of the token in the answer, from 0.

        Raises
        ------
        GenerationError
            If the model gives NaN.
        """
        logprobs = logits[0].log_softmax(-1)
        entropy_bits = -float(logprobs.exp() @ logprobs) / log(2)
        if entropy_bits != entropy_bits:
            raise GenerationError(
                f"the model gives NaN after {len(token_ids)} tokens; its weights are damaged, or "
                "its numbers overflowed. Load it with other bits."
            )
        scores = self._drawer.adjusted(logits, token_ids)
        drawn = self._drawer.draw(scores, place)
        token = drawn.token_id if given is None else given
        others = self._others(logprobs, scores[0], (drawn.token_id, token))
        pieces = self._tokenizer.pieces([token, *others])
        return Step(
            token_id=token,
            piece=pieces[0],
            text="",
            logprob=float(logprobs[token]),
            alternatives=tuple(
                _alternative(other, piece, logprob, drawn)
                for (other, logprob), piece in zip(others.items(), pieces[1:], strict=True)
            ),
            span="",
            drawn_logprob=drawn.logprob(token),
            entropy_bits=max(0.0, entropy_bits),  # not -0.0
        )

    def _others(
        self, logprobs: torch.Tensor, scores: torch.Tensor, always: Iterable[int]
    ) -> dict[int, float]:
        """Token id → the model's own log-probability, of those that are told."""
        count = min(self._num_alternatives, len(logprobs))
        if count == 0:
            return {}
        top = logprobs.topk(count)
        found = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        lifted = scores.topk(count).indices.tolist() if self._sampling.reorders else ()
        for token in (*lifted, *always):
            if token not in found:
                found[token] = float(logprobs[token])
        return found


def _alternative(token: int, piece: str, logprob: float, drawn: Drawn) -> Alternative:
    drawn_logprob = drawn.logprob(token)
    return Alternative(token, piece, logprob, drawn_logprob > -inf, drawn_logprob)
