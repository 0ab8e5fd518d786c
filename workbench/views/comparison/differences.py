"""Where two texts differ, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from workbench.generation.steps import Generation
from workbench.server.tokens import content_of


def comparable(base: Generation | None, other: Generation) -> tuple[list[Any], list[Any]]:
    """The tokens of both: ids where the weights are the same, else the bytes that they stand for."""
    weights = other.recipe.fingerprint  # a server tells none
    same = base is not None and weights and base.recipe.fingerprint == weights
    both = base.steps if base else (), other.steps
    one, two = (
        [step.token_id if same else content_of(step.piece) for step in steps] for steps in both
    )
    return one, two


def differences(base: Sequence[Any], tokens: Sequence[Any]) -> list[int]:
    """Places in `tokens` that are in no block that both have in the same order."""
    places = set(range(len(tokens)))
    for block in SequenceMatcher(None, base, tokens, autojunk=False).get_matching_blocks():
        places -= set(range(block.b, block.b + block.size))
    return sorted(places)


def first_difference(base: Sequence[Any], tokens: Sequence[Any]) -> int | None:
    for place, (one, other) in enumerate(zip(base, tokens, strict=False)):
        if one != other:
            return place
    return None if len(base) == len(tokens) else min(len(base), len(tokens))
