"""From what is asked to an answer on the page, and which of the answers is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workbench.errors import HistoryError
from workbench.generation.steps import Step
from workbench.prompts.branches import Branch
from workbench.views.playground import engine, messages
from workbench.views.playground.kept import KeptBranches
from workbench.views.playground.panels import INSIDE, Panels
from workbench.views.shared.news import News, layers_told, memory_gb, settle, step_message
from workbench.views.shared.words import reason, require_question


class Answers(Panels):
    """Streams answers to the page and keeps each as a branch; see `Playground` for the traits."""

    _prefixes: Any = None  # caches of earlier branches, once something was generated

    def __init__(self, *what: Any) -> None:
        self._statuses: dict[int, dict[str, Any]] = {}  # by branch
        self._drafts: dict[int | None, dict[str, Any]] = {}  # by branch: typed and not asked
        super().__init__(*what)
        self._kept = KeptBranches(self.branches, self.history)

    def _generate(
        self,
        asked: Any,
        thinking: str,
        begun: Sequence[Step | int] = (),
        parent: int | None = None,
        at: int = 0,
    ) -> None:
        """In the thread: stream a generation to the page and put it into tree and history."""
        current = None if parent is None else self.branches.current
        read = self._count() if current is None else current.generation.prompt_length
        settings = engine.recorded(self.pangu, (read or 0) + len(begun) + self.max_new_tokens)
        self._prefixes = self._prefixes or engine.caches(self.pangu)
        stream = self.pangu.stream(
            asked,
            self.max_new_tokens,
            self.sampling,
            thinking=thinking,
            stop=self._stop,
            stop_strings=tuple(self.stop_strings),
            begun=begun,
            prefixes=self._prefixes,
            **settings,
        )
        seen = (self.trace, self._stream, self.token)  # comes back if no new token comes
        self._look_away()
        if self.panel in INSIDE and not settings.get("record"):
            self.panel = ""  # unless it is clicked again meanwhile
        read_anew = any(isinstance(step, int) for step in begun[:at])  # numbers of another model
        self._shown = [] if parent is None or read_anew else self._shown[:at]
        settle(self._shown, stream.generation.steps)  # a stop string that cut them may be gone
        self._status = {"doing": "reading the prompt"}
        self.send(self._state())
        news = News(self._send_steps, len(self._shown))
        try:
            with layers_told(self.pangu, self._tell_layer):
                for step in stream:
                    seen = (None, None, -1)
                    if news.count == 0 and begun:  # what was given comes with the first token
                        self._give(news, stream.generation.steps[len(self._shown) : -1], at)
                    message = step_message(step)
                    self._shown.append(message)
                    news.add(message, lambda: self._progress(news, stream))
        finally:  # after an error too: what came stays
            generation = stream.generation
            if len(self._shown) < len(generation.steps):
                self._give(news, generation.steps[len(self._shown) :], at)
            self._status = {
                **self._progress(news, stream),
                "seconds": news.seconds,
                "reason": reason(generation),
                "finish": generation.finish_reason,
                "tail": generation.tail,
            }
            news.flush(self._status)
            first = settle(self._shown, generation.steps)
            if first < len(self._shown):
                self._send_steps(first, self._shown[first:], self._status)
            kept = bool(generation.steps) and len(generation.steps) >= at
            if kept:
                branch = self.branches.add(generation, parent, at)
                self._statuses[branch.id] = self._status
                self._kept.keep(branch, news.seconds)
            elif self.branches.current is not None:  # ended before a token of its own
                self._show_current()
                self.trace, self._stream, self.token = seen
        if kept and settings.get("record"):
            self._stream = stream
        recorded = self._stream is not None or self.trace is not None
        if self.panel in INSIDE and (recorded or not self._stop.is_set()):
            self._look_inside()  # it was clicked meanwhile, or is still open

    def _answer(self) -> None:
        asked = self._asked()
        require_question(asked)
        self._generate(asked, self.thinking)

    def _give(self, news: News, steps: Sequence[Step], at: int) -> None:
        """Show tokens that were not drawn; those from `at` on were chosen."""
        first = len(self._shown)
        given = [step_message(step, place >= at) for place, step in enumerate(steps, first)]
        self._shown += given
        news.give(given)

    def _progress(self, news: News, stream: Any) -> dict[str, Any]:
        return {
            "tokens": news.count,
            "speed": news.speed,
            "used": len(stream.generation.token_ids),
            "memory_gb": None if engine.is_remote(self.pangu) else memory_gb(self.pangu.device),
        }

    def _send_steps(self, start: int, steps: list[Any], status: dict[str, Any]) -> None:
        self._status = status
        self.send({"kind": "steps", "from": start, "steps": steps, "status": status})

    def _show_current(self) -> None:
        self._look_away()
        self._error = ""
        current = self.branches.current
        self._shown, self._status = [], {}
        if current is not None:
            steps = current.generation.steps
            leaves = current.parent is not None and current.recipe is not None
            given = range(current.at, len(current.recipe.begun)) if leaves else ()
            self._shown = [step_message(step, place in given) for place, step in enumerate(steps)]
            self._status = self._statuses.get(
                current.id,
                {
                    "tokens": messages.new_tokens(current.generation),
                    "used": len(current.generation.token_ids),
                    "reason": reason(current.generation),
                    "finish": current.generation.finish_reason,
                    "tail": current.generation.tail,
                },
            )
        self.send(self._state())
        if self.panel in INSIDE and not self.running:
            self._follow()

    def _return(self, left: Branch | None) -> None:
        """Show the current branch, and with it what was typed there and not asked, or what was asked.

        The branch that is on screen already changes between the two.
        """
        unasked, now = self._keep_draft(left), self.branches.current
        settings = messages.asked_settings(now.recipe) if now else {}
        if not unasked or left is not now:
            settings = self._drafts.pop(now.id if now else None, settings)
        changed = any(getattr(self, name) != value for name, value in settings.items())
        self._put(settings)
        self._show_current()
        if unasked and changed:
            self._tell_draft(left)

    def _keep_draft(self, left: Branch | None) -> bool:
        """Remember what is typed and was not asked for the branch that is left; whether there is any."""
        asked, thinking = messages.asked(left.generation) if left else ([], self.thinking)
        if self.mode == "chat":
            names = ("thinking", "system", "turns", "prompt")
            unasked = (self.conversation, self.thinking) != (asked, thinking)
        else:
            names = ("text",)
            unasked = self.text != (asked or "")
        if unasked:
            draft = {"mode": self.mode, **{name: getattr(self, name) for name in names}}
            self._drafts[left.id if left else None] = draft
        return unasked

    def _tell_draft(self, left: Branch | None) -> None:
        """Say how to get what was typed back."""
        if left is not None:
            there = left.id in self.branches
            kept = f"when you click “{left.name}”" if there else f"when “{left.name}” is restored"
            text = f"What you typed but did not send comes back {kept}. {self._made()}".strip()
            self.send({"kind": "note", "text": text, "bad": False})

    def _change(self, change: Callable[..., Any], *arguments: Any, undone: bool = False) -> None:
        """Change the branches; what is on screen and open stays so if it is still the current one."""
        before, there = self.branches.current, self._kept.ids()
        change(*arguments)
        now = self.branches.current
        stays = before is not None and now is not None and before.generation is now.generation
        if stays:
            self._error = ""
        else:
            self._return(before)
        told = self._tell_history(there, undone)
        if stays and told:
            self.send({"kind": "tree", **self._tree()})

    def _tell_history(self, before: set[int], undone: bool = False) -> bool:
        """Let the history know what became of the branches; whether that went well."""
        try:
            self._kept.update(before, undone)
        except HistoryError as error:
            self._error = f"The branches changed, but the history could not be updated: {error}"
            self.send({"kind": "tree", **self._tree()})
            return False
        return True
