"""Pages of widgets without kernel or network: one alone, or several that share their selection."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.views.shared.scripts import assembled, read


@dataclass(frozen=True)
class Static:
    """What a page without a kernel needs of a widget.

    Attributes
    ----------
    script : str
        The view's module.
    values : dict
        Traits by name.
    answers : list of dict
        "asked", what the page may ask; "content" and "buffers" (base64) of the answer.
    """

    script: str
    values: dict[str, Any]
    answers: list[dict[str, Any]]


def page(title: str, part: Static) -> str:
    """A page of one widget."""
    return _document(
        title,
        '<main id="view"></main>',
        part.script.replace("export default", "const widget ="),
        {"values": part.values, "answers": part.answers},
        "shared/page.js",
    )


def linked_page(
    titles: Sequence[str],
    parts: Sequence[Static],
    sharing: Mapping[str, Sequence[list[int] | None]],
    notes: Sequence[str] = (),
) -> str:
    """A page of all parts under each other, each with a button that hides it.

    Parameters
    ----------
    titles
        One per part.
    sharing
        Trait → for each part the values that it can take, None if it has no such trait.
    notes
        Lines of text above the parts.
    """
    scripts = list(dict.fromkeys(part.script for part in parts))
    modules = ",\n".join(
        f"(() => {{\n{script.replace('export default', 'return')}\n}})()" for script in scripts
    )
    described = [
        {
            "title": title,
            "widget": scripts.index(part.script),
            "values": part.values,
            "answers": part.answers,
        }
        for title, part in zip(titles, parts, strict=True)
    ]
    return _document(
        " · ".join(titles),
        '<header></header><nav aria-label="panels"></nav><main></main>',
        f"const widgets = [{modules}];",
        {"parts": described, "sharing": sharing, "notes": list(notes)},
        "shared/linked_page.js",
        read("shared/linked_page.css"),
    )


def written(page: str, path: str | Path | None) -> str | None:
    """The page, or None once it is in a file: a cell that ends with it would print all of it."""
    if path is None:
        return page
    Path(path).write_text(page, encoding="utf-8")
    return None


def _document(
    title: str, body: str, scripts: str, shown: Mapping[str, Any], last: str, styles: str = ""
) -> str:
    """A page whose script is `scripts`, what is shown as PAGE, and the module in the file `last`."""
    # JSON that cannot end the script element it stands in.
    values = json.dumps(shown, ensure_ascii=False).replace("<", "\\u003c")
    style = f"<style>\n{styles}</style>" if styles else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title>{style}</head>\n<body>{body}\n"
        f'<script type="module">\n{scripts}\nconst PAGE = {values};\n{assembled(last)}</script>'
        "</body></html>\n"
    )
