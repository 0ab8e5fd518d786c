"""Settings, ends and errors of generations in the page's words."""

from __future__ import annotations

import re
from typing import Any

from workbench.errors import GenerationError
from workbench.generation.steps import FINISH_REASONS, Generation

# Settings as the page calls them.
LABELS = {
    "top_p": "top-p", "top_k": "top-k", "min_p": "min-p", "max_new_tokens": "max tokens",
    "repetition_penalty": "repetition penalty",
}  # fmt: skip


def with_labels(text: str) -> str:
    """An error that names settings as Python does, with the words that the page has for them."""
    names = "|".join(LABELS)
    return re.sub(rf"\b({names})\b", lambda found: f"{LABELS[found[0]]} ({found[0]})", text)


def require_question(asked: Any) -> None:
    """Refuse a conversation whose last turn is the assistant's: there is nothing to answer.

    Raises
    ------
    GenerationError
    """
    if not isinstance(asked, str) and asked[-1].get("role") == "assistant":
        raise GenerationError(
            "the last turn is the assistant's, so there is nothing to answer: add a user "
            "turn, or remove the last turn to answer the one before it again."
        )


def reason(generation: Generation) -> str:
    """Why a generation ended, in words."""
    said = FINISH_REASONS.get(generation.finish_reason, generation.finish_reason)
    if generation.finish_reason == "context" and _asked_as_text(generation):
        return "the model's context is full: shorten the text"
    if generation.finish_reason == "stop_string" and generation.stop_string:
        return f"stop string {generation.stop_string!r} reached"
    return said


def _asked_as_text(generation: Generation) -> bool:
    return generation.recipe is not None and isinstance(generation.recipe.prompt, str)
