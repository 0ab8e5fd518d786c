"""Texts that end an answer, wherever their characters come from."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.errors import GenerationError


class StopStrings:
    """Gives text out as it comes, but for what a stop string may have begun.

    Attributes
    ----------
    found : str or None
        The stop string that came.
    held : str
        What is held back because a stop string may have begun there.
    """

    def __init__(self, stop_strings: Iterable[str]) -> None:
        self.stop_strings = tuple(stop_strings)
        self.found: str | None = None
        self.held = ""

    def push(self, text: str) -> str:
        """What can be shown now that this text has come; once a stop string came, nothing."""
        if self.found is not None:
            return ""
        self.held += text
        places = {stop: self.held.find(stop) for stop in self.stop_strings}
        there = [stop for stop, place in places.items() if place >= 0]
        if there:
            self.found = min(there, key=places.__getitem__)
            shown, self.held = self.held[: places[self.found]], ""
            return shown
        keep = max((_overlap(self.held, stop) for stop in self.stop_strings), default=0)
        shown = self.held[: len(self.held) - keep]
        self.held = self.held[len(shown) :]
        return shown

    def rest(self) -> str:
        """What was held back, when nothing more comes."""
        held, self.held = self.held, ""
        return held


def checked_stop_strings(given: str | Iterable[str]) -> tuple[str, ...]:
    """One text or several, none empty; GenerationError for anything else."""
    found = (given,) if isinstance(given, str) else given
    if not isinstance(found, Iterable) or isinstance(found, bytes):
        raise GenerationError(f"stop_strings is {given!r}; expected texts.")
    found = tuple(found)
    for text in found:
        if not isinstance(text, str) or not text:
            raise GenerationError(
                f"stop_strings holds {text!r}; expected texts of at least one character."
            )
    return tuple(dict.fromkeys(found))


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text with which the stop string begins."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
