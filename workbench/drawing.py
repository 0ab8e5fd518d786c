"""From logits to a token: transformers' filters, then one random number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from workbench.sampling import Sampling


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
    """Draws tokens: transformers' own processors in its order, then the inverse of the sums.

    The order is bias, repetition penalty; and unless greedy temperature, top-k, top-p, min-p. The
    last two look at what top-k left alone: the same tokens, without sorting a whole vocabulary.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._adjusting: list[LogitsProcessor] = []
        self._wide: list[LogitsProcessor] = []
        self._narrow: list[LogitsProcessor] = []
        if sampling.logit_bias:
            biases = {(token,): float(bias) for token, bias in sampling.logit_bias}
            self._adjusting.append(SequenceBiasLogitsProcessor(biases))
        if sampling.repetition_penalty != 1:
            penalty = float(sampling.repetition_penalty)
            self._adjusting.append(RepetitionPenaltyLogitsProcessor(penalty))
        if sampling.temperature not in (0, 1):
            self._wide.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_k:
            self._wide.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            self._narrow.append(TopPLogitsWarper(float(sampling.top_p)))
        if sampling.min_p:
            self._narrow.append(MinPLogitsWarper(float(sampling.min_p)))

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
        if self.sampling.temperature == 0:
            token = int(scores.argmax())
            return Drawn(token, np.array([token]), np.zeros(1))
        for processor in self._wide:
            scores = processor(None, scores)
        ids = scores[0].isfinite().nonzero()[:, 0]
        scores = scores[:, ids]
        for processor in self._narrow:
            scores = processor(None, scores)
        scores = scores[0].double().cpu().numpy()
        left = np.isfinite(scores)
        ids, scores = ids.cpu().numpy()[left], scores[left]
        scores -= scores.max()
        cumulative = np.exp(scores).cumsum()
        index = int(cumulative.searchsorted(self.sampling.uniform(place) * cumulative[-1], "right"))
        index = min(index, len(ids) - 1)  # the product may round up to the last sum
        return Drawn(int(ids[index]), ids, scores - np.log(cumulative[-1]))
