"""What the playground asks of the model: loaded here, or run by a server that tells less."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from workbench.errors import GenerationError, WorkbenchError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Generation, Step
from workbench.prompts.history import History
from workbench.prompts.models import Model
from workbench.server.tokens import SPECIAL
from workbench.views.playground.messages import NO_HISTORY, asked

RECORD_BYTES = 2**29  # of queries and keys, for routing and attention of what is on screen
OWN_TEXT = "The tokens of your own text are not known: the server does not send its tokenizer."
QUOTES = {'"': '"', "“": "”"}  # as they are typed, and as the page shows a piece


def is_remote(pangu: Model) -> bool:
    """Whether a server runs the model."""
    return hasattr(pangu, "missing")


def about(pangu: Model) -> str:
    """The model in a few words."""
    if is_remote(pangu):
        return f"on {pangu.url}"
    return f"{pangu.bits} bit, {pangu.device}"


def context(pangu: Model) -> int:
    """Tokens that fit; 0 if that is not known."""
    if is_remote(pangu):
        return pangu.context or 0
    return pangu.config.max_position_embeddings


def missing(pangu: Model, history: History | None) -> dict[str, str]:
    """What cannot be had, and why, by the name of the control."""
    found = {} if history is not None else {"history": NO_HISTORY}
    if is_remote(pangu):
        found |= {
            "routing": pangu.missing("routing"),
            "attention": pangu.missing("attention"),
            "text": pangu.missing("template"),
            "memory": pangu.missing("memory"),
            "drawn": pangu.missing("drawn"),
            "entropy": pangu.missing("entropy"),
            "context": pangu.missing("context"),
            "chat_branches": pangu.missing("chat_branches"),
            "own_text": OWN_TEXT,
        } | {name: pangu.missing(name) for name in ("top_k", "min_p", "repetition_penalty")}
    elif not getattr(pangu.config, "num_groups", 0):
        found["routing"] = f"{pangu.name} is a dense model without experts; nothing is routed."
    return {name: why for name, why in found.items() if why}


def tokens_of(pangu: Model, text: str) -> list[int]:
    """The token that a text names: its id, a special token's name, or a word with a space before it.

    In quotes, or after a space, it is a piece as the page shows it: 7 is an id, "7" the digit.
    """
    if is_remote(pangu):
        if text.isascii() and text.isdigit():
            return [int(text)]
        raise GenerationError(f"{OWN_TEXT} Give the token's id.")
    tokenizer, size = pangu.tokenizer, pangu.config.vocab_size
    if text.isascii() and text.isdigit():
        if int(text) >= size:
            raise GenerationError(f"there is no token {text}; ids go from 0 to {size - 1}.")
        return [int(text)]
    if text in tokenizer.special_tokens:
        return [tokenizer.special_tokens[text]]
    quoted = len(text) > 2 and text[0] in QUOTES and text[-1] == QUOTES[text[0]]
    text = text[1:-1] if quoted else text
    exact = quoted or text[:1] == " "
    if exact and text not in tokenizer.special_tokens:
        pieces = tokenizer.pieces(range(len(tokenizer)))
        if text in pieces:
            return [pieces.index(text)]
    return tokenizer.encode(text, add_bos=False, starts_text=not exact)


def special_names(pangu: Model, turns: list[dict[str, str]]) -> list[str]:
    """Special tokens' names that a conversation holds as text; of a server it is not known."""
    if is_remote(pangu):
        return []
    names = pangu.tokenizer.special_tokens
    return [name for name in names if any(name in str(turn.get("content")) for turn in turns)]


def written(generation: Generation, pangu: Model) -> str:
    """The answer as raw text, in which special tokens stand by name.

    A character that is not complete at its end is left out: no text can hold a part of it.
    """
    special = () if is_remote(pangu) else pangu.tokenizer.special_tokens.values()
    named = [
        step.piece if step.token_id in special or (is_remote(pangu) and SPECIAL.fullmatch(step.piece)) else ""
        for step in generation.steps
    ]  # fmt: skip
    texts = (step.text + name for step, name in zip(generation.steps, named, strict=True))
    return ("".join(texts) + generation.tail).rstrip("\ufffd")


def made_elsewhere(recipe: Recipe | None, pangu: Model) -> str:
    """In what a text was made with something else than this model, in a sentence; "" if in nothing."""
    if recipe is None:
        return ""
    if is_remote(pangu):
        here, made = (pangu.name, pangu.url), (recipe.checkpoint, recipe.device)
        others = [f"{made[0]} on {made[1]}"] if here != made else []
    else:
        others = _differences(recipe, pangu)
    if not others:
        return ""
    return (
        f"This text was made with {', '.join(others)}: the same prompt and settings may give another "
        "text here."
    )


def require_same_tokens(generation: Generation, pangu: Model) -> None:
    """Refuse to go on with tokens that mean something else to this model.

    Raises
    ------
    GenerationError
        If another tokenizer or chat template made them, or a server's own names stand for them.
    """
    question, thinking = asked(generation)
    ids = [step.token_id for step in generation.steps]
    known = all(0 <= token < pangu.config.vocab_size for token in ids)
    if (
        not known
        or pangu.tokenizer.pieces(ids) != [step.piece for step in generation.steps]
        or tuple(pangu.encode(question, thinking))
        != generation.token_ids[: generation.prompt_length]
    ):
        raise GenerationError(
            f"this text was made with the tokens of {generation.recipe.checkpoint}, and "
            f"{pangu.name} has different ones; generate it again with this model, or open it with the other."
        )


def begun(
    pangu: Model, generation: Generation, place: int, instead: int | str | None
) -> Sequence[Step | int]:
    """The start of a branch that leaves a generation at a token, with something else in its place.

    Raises
    ------
    GenerationError
        For a text of one's own on a server, whose tokens are not known.
    """
    if not isinstance(instead, str):
        return generation.begun(place, instead)
    if is_remote(pangu):
        raise GenerationError(OWN_TEXT)
    shared, tokenizer = generation.begun(place), pangu.tokenizer
    after_special = place > 0 and shared[-1].token_id in tokenizer.special_tokens.values()
    given = tokenizer.encode(instead, False, special=True, starts_text=after_special)
    return (*shared, *given)


def count(pangu: Model, question: Any, thinking: str) -> int | None:
    """Tokens that the model will read; None if that cannot be said, 0 if it cannot be asked."""
    if is_remote(pangu):
        return None
    try:
        return len(pangu.encode(question, thinking))
    except WorkbenchError:  # said when it is generated; there is nothing to count
        return 0


def caches(pangu: Model) -> Any:
    """Room for key-value caches of earlier branches; None for a server, which keeps its own."""
    if is_remote(pangu):
        return None
    from workbench.generation.prefixes import Prefixes  # torch, which a server's page does without

    return Prefixes(pangu)


def recorded(pangu: Model, tokens: int) -> dict[str, Any]:
    """Record while it generates, where that takes little memory; else the text is read again."""
    if is_remote(pangu):
        return {}
    return {"record": tokens * _recorded_bytes(pangu.config) <= RECORD_BYTES}


def reads_quickly(pangu: Model, tokens: int) -> bool:
    """Whether reading so many tokens again is a moment's work."""
    quick = (pangu.is_small or pangu.device.type == "cuda") and pangu.streaming is None
    return quick and 0 < tokens * _recorded_bytes(pangu.config) <= RECORD_BYTES


def pieces(pangu: Model, ids: Sequence[int]) -> list[str | None]:
    """The pieces of token ids; of a server they are not known."""
    return [None] * len(ids) if is_remote(pangu) else pangu.tokenizer.pieces(ids)


def _differences(recipe: Recipe, pangu: Model) -> list[str]:
    """What the recipe names and is otherwise here: weights, bits, device, versions."""
    if recipe.bits == 0:
        return [f"{recipe.checkpoint} on {recipe.device}"]
    found = []
    if recipe.fingerprint != pangu.fingerprint:
        found.append(
            recipe.checkpoint
            if recipe.checkpoint != pangu.name
            else f"different weights under the same name, {recipe.checkpoint}"
        )
    if recipe.bits != pangu.bits:
        found.append(f"{recipe.bits} bit")
    elif recipe.bits == 4 and recipe.quant_type != pangu.quant_type:
        found.append(recipe.quant_type)
    if recipe.device != pangu.plan.device:
        found.append(f"the device {recipe.device}")
    now = pangu.versions()
    left_out = ("python", "threads")  # a thread that computes nothing does not know torch's number
    made = {name: value for name, value in recipe.versions.items() if name not in left_out}
    made["processor"] = re.sub(r", \d+ threads$", "", made.get("processor", now["processor"]))
    return found + [f"{name} {other}" for name, other in made.items() if now.get(name) != other]


def _recorded_bytes(config: Any) -> int:
    """What queries and keys of one token take, at most."""
    heads = config.num_attention_heads + config.num_key_value_heads
    return 4 * config.num_hidden_layers * heads * config.head_dim
