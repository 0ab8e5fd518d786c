"""What is asked of a generation, checked against the model before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.arguments import whole_number
from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling, checked_sampling
from workbench.generation.steps import Step
from workbench.generation.stop_strings import checked_stop_strings


@dataclass(frozen=True)
class Request:
    """What is asked of a generation; see `workbench.generation.stream.stream`."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    alternatives: int
    stop_strings: tuple[str, ...]
    begun: tuple[int | Step, ...]

    @property
    def begun_ids(self) -> tuple[int, ...]:
        """Tokens of the answer that are given and not drawn."""
        return tuple(item.token_id if isinstance(item, Step) else item for item in self.begun)


def checked_request(
    config: Any,
    token_ids: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None,
    alternatives: int,
    stop_strings: str | Iterable[str],
    begun: Iterable[int | Step],
) -> Request:
    """The request, if the model can do it.

    Parameters
    ----------
    config
        The model's: its vocabulary and the length of its context.

    Raises
    ------
    GenerationError
        For an empty prompt, one that fills the context, a count below 1, a token outside the
        vocabulary, or a setting of another kind.
    """
    sampling = checked_sampling(sampling, Sampling())
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, GenerationError, "1 or more")
    alternatives = whole_number("alternatives", alternatives, GenerationError, "0 or more")
    stop_strings = checked_stop_strings(stop_strings)
    given = _checked_begun(begun, config.vocab_size)
    context = config.max_position_embeddings
    if not token_ids:
        raise GenerationError("the prompt is empty; pass at least one token.")
    if len(token_ids) >= context:
        raise GenerationError(
            f"the prompt has {len(token_ids)} tokens and the model's context is {context}; shorten it."
        )
    if len(token_ids) + len(given) > context:
        raise GenerationError(
            f"the prompt and the given beginning of the answer have {len(token_ids) + len(given)} tokens and the model's "
            f"context is {context}; shorten them."
        )
    if max_new_tokens < 1:
        raise GenerationError(f"max_new_tokens is {max_new_tokens}; expected 1 or more.")
    if alternatives < 0:
        raise GenerationError(f"alternatives is {alternatives}; expected 0 or more.")
    size = config.vocab_size
    if outside := [token for token, _ in sampling.logit_bias if token >= size]:
        raise GenerationError(
            f"logit_bias names token {outside[0]}, which is outside the vocabulary of {size}."
        )
    return Request(tuple(token_ids), max_new_tokens, sampling, alternatives, stop_strings, given)


def _checked_begun(begun: Iterable[int | Step], vocab_size: int) -> tuple[int | Step, ...]:
    expected = "steps or token ids of an answer"
    if isinstance(begun, str) or not isinstance(begun, Iterable):
        raise GenerationError(f"begun is {begun!r}; expected {expected}.")
    found = tuple(
        item if isinstance(item, Step) else whole_number("an item of begun", item, GenerationError, expected)
        for item in begun
    )  # fmt: skip
    for item in found:
        token = item.token_id if isinstance(item, Step) else item
        if not 0 <= token < vocab_size:
            raise GenerationError(
                f"begun holds token {token}, which is outside the vocabulary of {vocab_size}."
            )
    return found
