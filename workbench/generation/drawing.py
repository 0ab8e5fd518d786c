"""From logits to a token: the filters, then one random number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from workbench.generation.sampling import Sampling


@dataclass(frozen=True, eq=False)
class Drawn:
    """A token and what it was drawn from.

    Attributes
    ----------
    token_id : int
    kept_ids : numpy.ndarray
        Ids of the tokens that were left in the draw, ascending; of a greedy one the token alone.
    kept_logprobs : numpy.ndarray
        Natural logarithms of their probabilities there, float64.
    """

    token_id: int
    kept_ids: np.ndarray
    kept_logprobs: np.ndarray

    def logprob(self, token: int) -> float:
        """Of any token; -inf if it was not left in the draw."""
        index = int(self.kept_ids.searchsorted(token))
        if index < len(self.kept_ids) and self.kept_ids[index] == token:
            return float(self.kept_logprobs[index])
        return -inf


class Drawer:
    """Draws tokens: filters in transformers' order, then the inverse of the sums.

    The order is bias, repetition penalty; and unless greedy temperature, top-k, top-p, min-p.
    Logits in bfloat16 are often equal. Of equal tokens the one with the lower id comes first in top-k,
    which keeps exactly so many, and in top-p. (Of transformers' own, top-k keeps all that equal the
    last one, and top-p leaves the choice among equal ones to the sort.)
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._adjusting: list[LogitsProcessor] = []
        if sampling.logit_bias:
            biases = {(token,): float(bias) for token, bias in sampling.logit_bias}
            self._adjusting.append(SequenceBiasLogitsProcessor(biases))
        if sampling.repetition_penalty != 1:
            penalty = float(sampling.repetition_penalty)
            self._adjusting.append(RepetitionPenaltyLogitsProcessor(penalty))

    def adjusted(self, logits: torch.Tensor, token_ids: Sequence[int]) -> torch.Tensor:
        """Logits [1, vocabulary] after bias and penalty; `token_ids` are prompt and answer."""
        if not self._adjusting:
            return logits
        seen = torch.tensor([token_ids], device=logits.device)
        for processor in self._adjusting:
            logits = processor(seen, logits)
        return logits

    def draw(self, scores: torch.Tensor, place: int) -> Drawn:
        """The token at this place of the answer, from 0, and what it was drawn from.

        It is the first, in the order of ids, up to which the probabilities add up to more than
        `Sampling.uniform(place)`, in float64; if greedy the largest score, of equal ones the first.
        `scores` are [1, vocabulary], adjusted.
        """
        sampling = self.sampling
        if sampling.temperature == 0:
            token = int(scores.argmax())
            return Drawn(token, np.array([token]), np.zeros(1))
        scores = scores[0] / sampling.temperature
        left = scores.isfinite()
        if 0 < sampling.top_k < len(scores):  # few go on, and those that equal the last of them
            left &= scores >= scores.topk(sampling.top_k).values[-1]
        ids, scores = left.nonzero()[:, 0].cpu().numpy(), scores[left].double().cpu().numpy()
        kept = self._kept(scores)
        ids, scores = ids[kept], scores[kept] - scores.max()
        cumulative = np.exp(scores).cumsum()
        index = int(cumulative.searchsorted(sampling.uniform(place) * cumulative[-1], "right"))
        index = min(index, len(ids) - 1)  # the product may round up to the last sum
        return Drawn(int(ids[index]), ids, scores - np.log(cumulative[-1]))

    def _kept(self, scores: np.ndarray) -> np.ndarray:
        """Whether each of the scores, which stand in the order of ids, is left by top-k, top-p, min-p."""
        top_k, top_p, min_p = self.sampling.top_k, self.sampling.top_p, self.sampling.min_p
        if not top_k and top_p == 1 and not min_p:
            return np.ones(len(scores), dtype=bool)
        largest = np.sort(scores)[::-1][: top_k or None]
        weights = np.exp(largest - largest[0])
        if top_p < 1:  # what comes before a kept one does not reach it
            sums = weights.cumsum()
            count = 1 + int(sums.searchsorted(top_p * sums[-1]))
            largest, weights = largest[:count], weights[:count]
        largest = largest[weights >= min_p]
        kept = scores > largest[-1]
        equal = np.flatnonzero(scores == largest[-1])
        kept[equal[: len(largest) - int(kept.sum())]] = True
        return kept
