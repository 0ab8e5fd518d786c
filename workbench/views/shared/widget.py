"""What the widgets share: refusing misspelt arguments, answering the page, a static twin."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
from IPython import get_ipython
from matplotlib.figure import Figure

from workbench.generation.turn import cell_ended
from workbench.views.shared.pages import Static, page, written
from workbench.views.shared.printing import png

Answer = tuple[dict[str, Any], list[bytes]]


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
        return written(page(type(self).__name__, self.static(questions, opening)), path)

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
        return Static(self._esm, values, answers)

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


def _is_plain(value: Any, name: str) -> bool:
    return not name.startswith("_") and (
        value is None or isinstance(value, str | int | float | list)
    )
