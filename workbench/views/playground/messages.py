"""What the playground's page is told about branches, settings and history."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from workbench.errors import GenerationError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Generation, Step
from workbench.prompts.branches import Branch, Branches
from workbench.prompts.entries import Entry
from workbench.prompts.history import History
from workbench.prompts.lines import as_text
from workbench.views.shared.words import LABELS

SHOWN = 200  # entries of the history, the newest
ASKED_WITH_IDS = "the prompt was given as token ids, which the playground cannot show as text; use pangu.generate."
ONLY_THINKING = {  # by what ended it
    "length": "max tokens were reached: generate again with a larger value, or branch from the last token.",
    "context": "the model's context is full: shorten the prompt, or start a new conversation.",
    "stop_string": "a stop string was reached. Remove it under “more settings” and generate again.",
    "stopped": "it was stopped. Generate again and let it finish.",
    "eos": "the model ended its turn there: generate again with another seed.",
}  # fmt: skip
NO_HISTORY = "This playground keeps no history; pass Playground(…, history=…) the name of a file."


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


def history(kept: History | None) -> dict[str, Any]:
    """The newest entries for the page."""
    if kept is None:
        return {"kind": "history", "entries": [], "note": NO_HISTORY}
    entries = kept.entries()
    damaged = f" {len(kept.damaged)} damaged lines were left out." if kept.damaged else ""
    words = (
        f"{len(entries)} generations in {kept.path.name}"
        + (f", the newest {SHOWN} here" if len(entries) > SHOWN else "")
        + f". Click a time to restore prompt, settings, text and branches.{damaged}"
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
    return f"this text has only thinking and no answer, so the conversation cannot continue from it: {why}"


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
