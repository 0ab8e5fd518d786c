"""How the next token is drawn: the settings, and one random number for every place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from numbers import Real
from typing import Any

import numpy as np

from workbench.arguments import whole_number
from workbench.errors import GenerationError

LEAST_TEMPERATURE = 1e-3  # but for 0: smaller ones leave float32's range


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The defaults are those suggested for Pangu Pro MoE.

    Attributes
    ----------
    temperature : float
        0 takes the most probable token every time (greedy): `top_p`, `top_k`, `min_p` and `seed`
        then change nothing.
    top_p : float
        Keep the most probable tokens that together reach this probability, of equal ones first
        those with the lower id; 1 keeps all.
    top_k : int
        Keep this many of the most probable tokens, of equal ones first those with the lower id; 0
        keeps all.
    seed : int
        From -2^63 to 2^64 - 1. The same seed, prompt, settings and machine give the same text.
    min_p : float
        Drop tokens less probable than this share of the most probable one's probability; 0 keeps
        all.
    repetition_penalty : float
        Above 1, tokens that occurred become less probable: their logit is divided by it if it is
        positive and multiplied if it is negative (transformers' rule, arXiv 1909.05858). As in
        transformers the tokens of the prompt count as well. 1 is off.
    logit_bias : tuple of (int, float)
        What is added to the logits of some token ids; a mapping or pairs, kept sorted. -100 bans
        a token.

    Raises
    ------
    GenerationError
        For a setting that is no number or out of range.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 50
    seed: int = 0
    min_p: float = field(default=0.0, kw_only=True)
    repetition_penalty: float = field(default=1.0, kw_only=True)
    logit_bias: tuple[tuple[int, float], ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        for name in ("top_k", "seed"):
            value = whole_number(name, getattr(self, name), GenerationError, "a whole number")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "logit_bias", _pairs(self.logit_bias))
        if not (self.temperature == 0 or LEAST_TEMPERATURE <= self.temperature < inf):
            raise GenerationError(
                f"temperature is {self.temperature}; expected 0 (greedy), or {LEAST_TEMPERATURE} or more."
            )
        if not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p is {self.top_p}; expected more than 0 and at most 1.")
        if self.top_k < 0:
            raise GenerationError(f"top_k is {self.top_k}; expected 0 (off) or more.")
        if not 0 <= self.min_p <= 1:
            raise GenerationError(f"min_p is {self.min_p}; expected 0 (off) to 1.")
        if not 0 < self.repetition_penalty < inf:
            raise GenerationError(
                f"repetition_penalty is {self.repetition_penalty}; expected more than 0 (1 is off)."
            )
        if not -(2**63) <= self.seed < 2**64:
            raise GenerationError(f"seed is {self.seed}; expected -2^63 to 2^64 - 1.")

    @classmethod
    def greedy(cls, **settings: Any) -> Sampling:
        """The most probable token every time."""
        return cls(**{"temperature": 0.0, **settings})

    @property
    def reorders(self) -> bool:
        """Whether tokens may change places: a bias or a penalty is set."""
        return bool(self.logit_bias) or self.repetition_penalty != 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `Sampling(**values)` gives the same again."""
        return {**asdict(self), "logit_bias": [list(pair) for pair in self.logit_bias]}

    def uniform(self, place: int) -> float:
        """The random number in [0, 1) that draws the token at this place of the answer.

        The first 53 bits of NumPy's Philox generator, whose key is the seed and whose counter is
        the place: no place depends on another one, so that a branch needs no replay.
        """
        generator = np.random.Philox(key=self.seed % 2**128, counter=place)
        return (int(generator.random_raw()) >> 11) * 2.0**-53


def checked_sampling(sampling: Sampling | None, otherwise: Sampling) -> Sampling:
    """`sampling`, or `otherwise` where it is None; GenerationError for anything else."""
    if sampling is None:
        return otherwise
    if not isinstance(sampling, Sampling):
        raise GenerationError(
            f"sampling is {sampling!r}; expected workbench.Sampling(...) or None."
        )
    return sampling


def _number(name: str, value: float) -> float:
    if type(value) in (int, float):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise GenerationError(f"{name} is {value!r}; expected a number.")


def _pairs(given: Any) -> tuple[tuple[int, float], ...]:
    """Token id and bias, sorted by id."""
    expected = "expected a mapping or pairs of token id and bias, such as {45892: -100}"
    if isinstance(given, Mapping):
        given = given.items()
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise GenerationError(f"logit_bias is {given!r}; {expected}.")
    found: dict[int, float] = {}
    for pair in given:
        if isinstance(pair, str) or not isinstance(pair, Iterable) or len(pair := tuple(pair)) != 2:
            raise GenerationError(f"logit_bias holds {pair!r}; {expected}.")
        token = whole_number("a token id of logit_bias", pair[0], GenerationError, "a whole number")
        bias = _number(f"the bias of token {token}", pair[1])
        if token < 0 or not isfinite(bias):
            raise GenerationError(
                f"logit_bias holds {token}: {bias}; expected an id from 0 on and a finite number "
                "(-100 bans a token)."
            )
        if token in found:
            raise GenerationError(f"logit_bias holds token {token} twice; expected it once.")
        found[token] = bias
    return tuple(sorted(found.items()))
