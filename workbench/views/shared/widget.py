"""What the widgets share: refusing misspelt arguments, answering the page, a static twin."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
from IPython import get_ipython
from matplotlib.figure import Figure

from workbench.generation.turn import cell_ended
from workbench.views.shared.printing import png

VIEWS = Path(__file__).parents[1]
IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
# The page's side of a widget without a kernel, which also tells what it holds; braces are doubled
# for str.format.
STAND_IN = """
const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const standIn = (values, answers) => {{
  const listeners = {{}};
  const named = (question) => JSON.stringify(Object.entries(question).sort());
  const known = new Map(answers.map((answer) => [named(answer.asked), answer]));
  const model = {{
    holds: (question) => known.has(named(question)),
    get: (name) => values[name],
    set: (name, value) => {{
      if (values[name] === value) return;
      values[name] = value;
      (listeners["change:" + name] || []).forEach((call) => call());
    }},
    save_changes: () => {{}},
    on: (name, call) => (listeners[name] = listeners[name] || []).push(call),
    off: () => {{}},
    send: (question) => setTimeout(() => {{
      const found = known.get(named(question)) || {{ content: {{ kind: "absent", asked: question }}, buffers: [] }};
      (listeners["msg:custom"] || []).forEach((call) =>
        call(found.content, found.buffers.map((b) => new DataView(decode(b).buffer))));
    }}),
  }};
  return {{ model, listeners }};
}};
"""
PAGE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><main id="view"></main>
<script type="module">
{script}"""
    + STAND_IN
    + """const {{ model, listeners }} = standIn({values}, {answers});
widget.render({{ model, el: document.getElementById("view") }});
</script></body></html>
"""
)

Answer = tuple[dict[str, Any], list[bytes]]


@dataclass(frozen=True)
class Static:
    """A widget's script, and its traits and answers as JavaScript values."""

    script: str
    values: str
    answers: str


class View(anywidget.AnyWidget):
    """A widget whose page asks for what it shows and gets it as one binary message."""

    def __init__(self, **settings: Any) -> None:
        known = sorted(
            name for name, trait in self.traits(sync=True).items() if not name.startswith("_")
        )
        own = [name for name in known if name not in ("comm", "layout", "tabbable", "tooltip")]
        if unknown := settings.keys() - {*own, "layout"}:
            raise TypeError(
                f"{type(self).__name__} has no setting {sorted(unknown)[0]!r}; it has {', '.join(own)}."
            )
        super().__init__(**settings)
        self.on_msg(self._on_message)

    def open(self) -> None:
        """Begin to be heard by pages, also while a cell runs.

        JupyterLab sends what a page asks to a shell of its own, and ipykernel 7.4 holds it back
        until the cells that run have ended. Views do without that: `answer` may be called beside a
        cell, and a cell that has ended leaves nothing behind that is in its way.
        """
        super().open()
        if shell := get_ipython():
            shell.events.register("post_run_cell", cell_ended)  # once, however often
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda _data, sent_to: sent_to

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """What to send back for a message of the page; None sends nothing."""
        raise NotImplementedError

    def figure(self) -> Figure:
        """A matplotlib figure of what is selected, for print."""
        raise NotImplementedError

    def questions(self) -> Sequence[dict[str, Any]]:
        """What the page would ask at first; a static page is built from the answers."""
        return [{"kind": "want"}]

    def to_html(self, path: str | Path | None = None) -> str | None:
        """One self-contained page without kernel or network; None if it is written to `path`."""
        return self._page(self.questions(), path)

    def _page(
        self,
        questions: Sequence[dict[str, Any]],
        path: str | Path | None,
        opening: Mapping[str, Any] | None = None,
    ) -> str | None:
        part = self.static(questions, opening)
        page = PAGE.format(
            title=type(self).__name__,
            script=part.script.replace("export default", "const widget ="),
            values=part.values,
            answers=part.answers,
        )
        return written(page, path)

    def static(
        self,
        questions: Sequence[dict[str, Any]] | None = None,
        opening: Mapping[str, Any] | None = None,
    ) -> Static:
        """What a page without a kernel needs of this widget, by default all of `questions()`.

        `opening` holds traits that the page begins with instead of their values now.
        """
        values = {name: getattr(self, name) for name in self.traits(sync=True) if name in self.keys}
        values |= opening or {}
        still = {"running": False, "doing": ""}  # nothing runs behind a page without kernel
        values |= {name: value for name, value in still.items() if name in values}
        values = {name: value for name, value in values.items() if _is_plain(value, name)}
        answers = []
        for question in self.questions() if questions is None else questions:
            answer = self.answer(question)
            if answer is not None:
                buffers = [base64.b64encode(buffer).decode() for buffer in answer[1]]
                answers.append({"asked": question, "content": answer[0], "buffers": buffers})
        return Static(self._esm, for_script(values), for_script(answers))

    def _on_message(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        answer = self.answer(content)
        if answer is not None:
            self.send(answer[0], answer[1])

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and beside it a picture for readers that have no kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["image/png"] = base64.b64encode(png(self.figure(), dpi=80)).decode()
        return bundle


def script(folder: str) -> str:
    """The script of a view as the one module that a widget is.

    It is `view.js` of the folder, after all modules that it imports, each once, without their
    `import` and `export`; the styles, `shared.css` and `view.css` of the folder, are its constant
    `STYLES`.
    """
    parts: dict[Path, str] = {}

    def add(file: Path) -> None:
        code = file.read_text(encoding="utf-8")
        for imported in IMPORT.findall(code):
            part = (file.parent / imported).resolve()
            if part not in parts:
                add(part)
        parts[file] = EXPORT.sub("", IMPORT.sub("", code))

    add(VIEWS / folder / "view.js")
    files = (VIEWS / "shared" / "shared.css", VIEWS / folder / "view.css")
    styles = "".join(file.read_text(encoding="utf-8") for file in files)
    return "\n".join((f"const STYLES = {json.dumps(styles)};", *parts.values()))


def written(page: str, path: str | Path | None) -> str | None:
    """The page, or None once it is in a file: a cell that ends with it would print all of it."""
    if path is None:
        return page
    Path(path).write_text(page, encoding="utf-8")
    return None


def for_script(values: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")


def _is_plain(value: Any, name: str) -> bool:
    return not name.startswith("_") and (
        value is None or isinstance(value, str | int | float | list)
    )
