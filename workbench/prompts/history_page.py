"""A history as one page: no script, no request, and every text is only text."""

from __future__ import annotations

import html
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.generation.steps import FINISH_REASONS
from workbench.prompts.entries import Entry
from workbench.wording import counted, titled

# Even if something were interpreted, the browser would run and load nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
VISIBLE = "\n\t\u200c\u200d"  # joiners are a part of Persian words and of emoji
# Classes of a token's probability, as in the playground: what it is at least, and how it is called.
LEVELS = (
    (0.9, "90 % or more"),
    (0.5, "50–90 %"),
    (0.2, "20–50 %"),
    (0.05, "5–20 %"),
    (0.0, "under 5 %"),
)
CSS = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f1f1f; background: #fff; }
article { border-top: 1px solid #ccc; padding: 1rem 0; }
h2 { font-size: 1rem; margin: 0 0 .5rem; font-weight: 600; }
h3 { font-size: .8rem; margin: .6rem 0 .2rem; color: #555; font-weight: 600; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; font-family: ui-monospace, monospace; font-size: .9rem; margin: 0; padding: .5rem; background: #f6f6f6; border-radius: 4px; }
.facts, .legend { color: #555; font-size: .85rem; }
.control { font-size: .75em; border: 1px solid currentColor; border-radius: 3px; padding: 0 2px; color: #8a3b00; }
.p1 { background: #fdeedd; } .p2 { background: #fbdcbc; } .p3 { background: #f9c48d; } .p4 { background: #f6a95a; }
.stars { letter-spacing: .1em; color: #8a3b00; }
details { margin: .4rem 0; } summary { cursor: pointer; font-size: .85rem; color: #555; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #151515; } .text { background: #222; } article { border-color: #444; }
  h3, .facts, .legend, summary { color: #aaa; } .control, .stars { color: #ffb27a; }
  .p1 { background: #35291c; } .p2 { background: #4a351d; } .p3 { background: #64411a; } .p4 { background: #855012; }
}
"""


def history_page(entries: Sequence[Entry], title: str) -> str:
    """The page; see `History.to_html`."""
    legend = " ".join(
        f'<span class="p{level}">{words}</span>' for level, (_, words) in enumerate(LEVELS)
    )
    numbers = {entry.id: number for number, entry in enumerate(entries, 1)}
    articles = "\n".join(_article(numbers, entry) for entry in entries)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{shown(title, marks=False)}</title><style>{CSS}</style></head><body>\n"
        f"<h1>{shown(title)}</h1>\n"
        f'<p class="facts">{len(entries)} generation{"" if len(entries) == 1 else "s"}, oldest first.</p>'
        f'<p class="legend">A token\'s probability: {legend}; hover to see the number.</p>\n'
        f"{articles}\n</body></html>\n"
    )


def shown(text: str, marks: bool = True) -> str:
    """A text as HTML that shows it: characters that would be invisible or turn the line by name."""
    parts = []
    for character in text:
        if character in VISIBLE or unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
            parts.append(html.escape(character))
        elif marks:
            parts.append(f'<span class="control">U+{ord(character):04X}</span>')
        else:
            parts.append(f"U+{ord(character):04X}")
    return "".join(parts)


# -- inside -------------------------------------------------------------------------------------


def _article(numbers: Mapping[str, int], entry: Entry) -> str:
    facts = [
        FINISH_REASONS.get(entry.finish_reason, entry.finish_reason),
        counted(entry.num_tokens),
    ]
    if entry.parent in numbers:
        facts.append(f"branches from {numbers[entry.parent]} at token {entry.at} (counted from 0)")
    if entry.name:
        facts.append(f"named {entry.name}")
    if entry.seconds:
        facts.append(f"{entry.seconds:.1f} s")
    if entry.logprob_mean is not None:
        facts.append(f"mean log-probability {min(entry.logprob_mean, -0.0) + 0.0:.2f}")
    rating = ""
    if entry.rating:
        stars = "★" * entry.rating + "☆" * (5 - entry.rating)
        rating = f' <span class="stars" title="{entry.rating} of 5">{stars}</span>'
    note = (
        f'<h3>Note</h3><div class="text" dir="auto">{shown(entry.note)}</div>' if entry.note else ""
    )
    lines = [f"{name}: {_compact(value)}" for name, value in entry.recipe.items()]
    return (
        f'<article id="{shown(entry.id, marks=False)}">'
        f"<h2>{numbers[entry.id]}. {shown(titled(entry.model))}{rating}</h2>"
        f'<div class="facts">{shown(entry.time)}: {shown(", ".join(facts))}</div>'
        f'<h3>Prompt</h3><div class="text" dir="auto">{shown(entry.prompt)}</div>'
        f"{_said(entry)}{note}"
        f"<details><summary>Recipe</summary>"
        f'<div class="text">{shown(chr(10).join(lines))}</div></details></article>'
    )


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _said(entry: Entry) -> str:
    """The text; where there is thinking, it and the answer under their names."""
    parts = {"Text": (entry.text, None)}
    if entry.thinking:
        parts = {"Thinking": (entry.thinking, True)}
        if entry.answer:
            parts["Answer"] = (entry.answer, False)
    return "".join(
        f'<h3>{name}</h3><div class="text" dir="auto">{_tokens(entry, text, thinking)}</div>'
        for name, (text, thinking) in parts.items()
    )


def _tokens(entry: Entry, whole: str, thinking: bool | None) -> str:
    """The text by tokens, of the thinking, of the rest or of all, if they make it up; else `whole`."""
    tokens = entry.tokens
    texts = tokens.get("texts") or []
    columns = [tokens.get(name) or [None] * len(texts) for name in ("pieces", "logprobs", "spans")]
    listed = [
        (text, piece, logprob)
        for text, piece, logprob, span in zip(texts, *columns, strict=False)
        if thinking is None or (span == "thinking") is thinking
    ]
    made = "".join(text for text, _, _ in listed)
    if made != whole if thinking is None else made.strip() != whole:
        return shown(whole)
    parts = []
    for text, piece, logprob in listed:
        if not text:
            continue  # a special token, or a part of the next one's character
        coloured = ""
        if logprob is not None:
            chance = math.exp(min(0.0, logprob))
            title = f"{shown(repr(piece), marks=False)}: {100 * chance:.1f} %"
            level = next(n for n, (least, _) in enumerate(LEVELS) if chance >= least)
            coloured = f' class="p{level}" title="{title}"'
        parts.append(f"<span{coloured}>{shown(text)}</span>")
    return "".join(parts)
