"""What the playground's page is told about model, branches, settings and history."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.fingerprint import versions
from workbench.errors import GenerationError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Generation, Step
from workbench.prompts.branches import Branch, Branches
from workbench.prompts.entries import Entry
from workbench.prompts.history import History
from workbench.prompts.lines import as_text
from workbench.server.tokens import SPECIAL
from workbench.views.shared.generating import LABELS

if TYPE_CHECKING:
    from workbench.pangu import Pangu

SHOWN = 200  # entries of the history, the newest
OWN_TEXT = (
    "The tokens of a text of your own are not known here: the server does not send its tokenizer."
)
ASKED_WITH_IDS = "this was asked with token ids, which the playground's text cannot hold; pangu.generate takes them."
ONLY_THINKING = {  # by what ended it
    "length": "max tokens were reached: generate it again with more of them, or go on with a branch from its last token.",
    "context": "the model's context is full: ask for less, or begin a new conversation.",
    "stop_string": "a stop string came. Take it out of the stop strings (more settings) and generate it again.",
    "stopped": "it was stopped. Generate it again and let it end.",
    "eos": "the model ended its turn there: generate it again with another seed.",
}  # fmt: skip
QUOTES = {'"': '"', "“": "”"}  # as they are typed, and as the page shows a piece
NO_HISTORY = "This playground keeps no history; Playground(…, history=…) names a file."


def is_remote(pangu: Pangu) -> bool:
    """Whether a server runs the model."""
    return hasattr(pangu, "missing")


def about(pangu: Pangu) -> str:
    """The model in a few words."""
    if is_remote(pangu):
        return f"on {pangu.url}"
    return f"{pangu.bits} bit, {pangu.device}"


def context(pangu: Pangu) -> int:
    """Tokens that fit; 0 if that is not known."""
    if is_remote(pangu):
        return pangu.context or 0
    return pangu.config.max_position_embeddings


def missing(pangu: Pangu, history: History | None) -> dict[str, str]:
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


def nodes(branches: Branches) -> list[dict[str, Any]]:
    """The tree for the page: every branch after its parent, with how deep it stands."""

    def below(parent: int | None, depth: int) -> Iterator[tuple[Branch, int]]:
        for branch in branches.children(parent):
            yield branch, depth
            yield from below(branch.id, depth + 1)

    return [
        {
            "id": branch.id,
            "name": branch.name,
            "at": None if branch.parent is None else branch.at,
            "depth": depth,
            "preview": _preview(branch.generation.steps[branch.at :]),
        }
        for branch, depth in below(None, 0)
    ]


def _preview(steps: Sequence[Step]) -> str:
    """How a text begins; a space stands between its thinking and its answer."""
    spans = ("".join(step.text for step in part) for _, part in groupby(steps, lambda s: s.span))
    return " ".join(text for text in spans if text)[:60]


def other_settings(recipe: Recipe | None, now: Mapping[str, Any]) -> str:
    """With which settings a text was made, of those that are others now, in a sentence."""
    if recipe is None:
        return ""
    made = {**recipe.sampling.as_dict(), "max_new_tokens": recipe.max_new_tokens}
    bias, bias_now = (
        sorted(map(tuple, pairs)) for pairs in (made.pop("logit_bias"), now["logit_bias"])
    )
    others = [
        f"{LABELS.get(name, name)} {value}" for name, value in made.items() if value != now[name]
    ]
    if bias != bias_now:
        others.append("another logit bias")
    if list(recipe.stop_strings) != now["stop_strings"]:
        others.append("other stop strings")
    return f"This text was made with {', '.join(others)}." if others else ""


def tokens_of(pangu: Pangu, text: str) -> list[int]:
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


def special_names(pangu: Pangu, turns: list[dict[str, str]]) -> list[str]:
    """Special tokens' names that a conversation holds as text; of a server it is not known."""
    if is_remote(pangu):
        return []
    names = pangu.tokenizer.special_tokens
    return [name for name in names if any(name in str(turn.get("content")) for turn in turns)]


def history(kept: History | None) -> dict[str, Any]:
    """The newest entries for the page."""
    if kept is None:
        return {"kind": "history", "entries": [], "note": NO_HISTORY}
    entries = kept.entries()
    damaged = f" {len(kept.damaged)} damaged lines were left out." if kept.damaged else ""
    words = (
        f"{len(entries)} generations in {kept.path.name}"
        + (f", the newest {SHOWN} here" if len(entries) > SHOWN else "")
        + f". A click on the time brings prompt, settings, text and its branches back.{damaged}"
    )
    return {
        "kind": "history",
        "note": words,
        "entries": [_entry(entry) for entry in reversed(entries[-SHOWN:])],
    }


def local_time(written: str) -> str:
    """Date and time on this machine's clock; as it is written where it is no time."""
    try:
        return datetime.fromisoformat(written).astimezone().isoformat(" ")[:19]
    except (ValueError, OverflowError):
        return written[:19]


def exported(kept: History, form: str) -> dict[str, Any]:
    """The whole history as a file that the page saves."""
    name = f"{kept.path.stem}-export.{form}"
    if form == "html":
        return {"kind": "file", "name": name, "content": kept.to_html()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        kept.to_jsonl(path)
        return {"kind": "file", "name": name, "content": path.read_text(encoding="utf-8")}


def asked(generation: Generation) -> tuple[Any, str]:
    """What was asked, as `Pangu.stream` takes it, and with which thinking."""
    recipe = generation.recipe
    if recipe is None:
        return list(generation.token_ids[: generation.prompt_length]), "slow"
    return (
        recipe.prompt if isinstance(recipe.prompt, str) else list(recipe.prompt)
    ), recipe.thinking


def new_tokens(generation: Generation) -> int:
    """How many tokens were drawn; those of a branch that were given are not among them."""
    given = 0 if generation.recipe is None else len(generation.recipe.begun)
    return max(0, len(generation.steps) - given)


def written(generation: Generation, pangu: Pangu) -> str:
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


def made_elsewhere(recipe: Recipe | None, pangu: Pangu) -> str:
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
        f"This text was made with {', '.join(others)}: from the same prompt and settings another one "
        "may come here."
    )


def require_same_tokens(generation: Generation, pangu: Pangu) -> None:
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
            f"the tokens of this text are those of {generation.recipe.checkpoint}, and "
            f"{pangu.name} has others; generate it again with this model, or open it with that one."
        )


def asked_settings(recipe: Recipe | None) -> dict[str, Any]:
    """The playground's traits that say what was asked; none where its text cannot hold it."""
    if recipe is None or not recipe.prompt:
        return {}
    if isinstance(recipe.prompt, str):
        return {"mode": "raw", "text": recipe.prompt}
    if not isinstance(recipe.prompt[0], Mapping):
        return {}
    turns = [dict(turn) for turn in recipe.prompt]
    system = turns.pop(0)["content"] if turns[0]["role"] == "system" else ""
    prompt = turns.pop()["content"] if turns and turns[-1]["role"] == "user" else ""
    spoken = {"system": system, "turns": turns, "prompt": prompt}
    return {"mode": "chat", "thinking": recipe.thinking, **spoken}


def only_thinking(generation: Generation) -> str:
    """Why a conversation cannot go on from a text without an answer, and what to do."""
    reason = generation.finish_reason
    if reason == "stop_string" and generation.stop_string:
        why = ONLY_THINKING[reason].replace(
            "a stop string", f"the stop string {generation.stop_string!r}"
        )
    else:
        why = ONLY_THINKING.get(reason, f"it ended with {reason!r}: generate it again.")
    return f"this text is all thinking, without an answer that the conversation could go on from: {why}"


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The playground's traits that ask the same again.

    Raises
    ------
    GenerationError
        If it was asked with token ids.
    """
    spoken = asked_settings(recipe)
    if not spoken:
        raise GenerationError(ASKED_WITH_IDS)
    return {
        **recipe.sampling.as_dict(),
        "max_new_tokens": recipe.max_new_tokens,
        "stop_strings": list(recipe.stop_strings),
        **spoken,
    }


def _differences(recipe: Recipe, pangu: Pangu) -> list[str]:
    """What the recipe names and is otherwise here: weights, bits, device, versions."""
    if recipe.bits == 0:
        return [f"{recipe.checkpoint} on {recipe.device}"]
    found = []
    if recipe.fingerprint != pangu.fingerprint:
        found.append(
            recipe.checkpoint
            if recipe.checkpoint != pangu.name
            else f"other weights that were called {recipe.checkpoint} too"
        )
    if recipe.bits != pangu.bits:
        found.append(f"{recipe.bits} bit")
    elif recipe.bits == 4 and recipe.quant_type != pangu.quant_type:
        found.append(recipe.quant_type)
    if recipe.device != pangu.plan.device:
        found.append(f"the device {recipe.device}")
    now = versions()
    left_out = ("python", "threads")  # a thread that computes nothing does not know torch's number
    made = {name: value for name, value in recipe.versions.items() if name not in left_out}
    made["processor"] = re.sub(r", \d+ threads$", "", made.get("processor", now["processor"]))
    return found + [f"{name} {other}" for name, other in made.items() if now.get(name) != other]


def _entry(entry: Entry) -> dict[str, Any]:
    sampling = (entry.recipe or {}).get("sampling") or {}
    shown = ("temperature", "top_p", "top_k", "seed")
    settings = [f"{name} {sampling[name]}" for name in shown if name in sampling]
    return {
        "id": entry.id,
        "when": local_time(entry.time),
        "model": entry.model,
        "prompt": as_text(entry.prompt)[:200],
        "thinking": entry.thinking[:300],
        "answer": (entry.answer if entry.thinking else entry.text)[:300],
        "settings": ", ".join(settings),
        "branch": entry.name or (f"branch at {entry.at}" if entry.parent else ""),
    }
