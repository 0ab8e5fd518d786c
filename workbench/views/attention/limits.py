"""Which settings an attention view takes, as far as its text goes."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.arguments import whole_number
from workbench.errors import TraceError
from workbench.views.attention.recorded import Recorded


def require_recorded(name: str, value: int, recorded: Recorded) -> None:
    """That a layer or a head, by the name of its setting, was recorded.

    Raises
    ------
    TraceError
        If it was not.
    """
    allowed = recorded.layers if "layer" in name else list(range(recorded.heads))
    if value not in allowed:
        raise TraceError(f"{name} {value} is not recorded; expected one of {allowed}.")


def require_token(token: int, recorded: Recorded) -> None:
    """That a token is in the text, or -1 for none.

    Raises
    ------
    TraceError
        If it is not, or there is no text yet.
    """
    if token != -1:
        _require_text("token", recorded)
    _require_range("token", token, -1, recorded.num_tokens - 1, recorded)


def require_sink(sink: int, recorded: Recorded) -> None:
    """That so many first tokens may stand apart; before there is a text, any number.

    Raises
    ------
    TraceError
        If they may not.
    """
    _require_range("sink", sink, 0, max(1, recorded.num_tokens - 1), recorded)


def require_pins(pins: list[int], recorded: Recorded) -> None:
    """That all pinned tokens are in the text.

    Raises
    ------
    TraceError
        If one is not, or there is no text yet.
    """
    if pins:
        _require_text("pins", recorded)
    for pin in pins:
        if not 0 <= pin < recorded.num_tokens:
            raise TraceError(f"pin {pin} is out of range; expected 0 to {recorded.num_tokens - 1}.")


def require_zoom(zoom: list[int], recorded: Recorded) -> None:
    """That a part of the map is in the text, or empty for the whole.

    Raises
    ------
    TraceError
        If it is not, or there is no text yet.
    """
    if not zoom:
        return
    _require_text("zoom", recorded)
    tokens = recorded.num_tokens
    if not (
        len(zoom) == 4 and 0 <= zoom[0] < zoom[1] <= tokens and 0 <= zoom[2] < zoom[3] <= tokens
    ):
        raise TraceError(
            f"zoom is {zoom}; expected [] or [first row, end row, first column, end column] "
            f"within 0 to {tokens}."
        )


def some_of(what: str, chosen: str | Iterable[int], allowed: Iterable[int]) -> list[int]:
    """Layers or heads that are chosen, "all" or numbers, in their order.

    Raises
    ------
    TraceError
        For something else, or a number that is not among them.
    """
    allowed = list(allowed)
    if isinstance(chosen, str) and chosen == "all":
        return allowed
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        raise TraceError(f'{what}s are {chosen!r}; expected "all" or a list of numbers.')
    numbers = [whole_number(f"a {what}", number, TraceError, "a whole number") for number in chosen]
    if outside := [number for number in numbers if number not in allowed]:
        raise TraceError(f"{what} {outside[0]} is not recorded; expected some of {allowed}.")
    return sorted(set(numbers))


def _require_text(name: str, recorded: Recorded) -> None:
    if not recorded.num_tokens:
        raise TraceError(f"there is no text yet; set {name} after the first tokens have arrived.")


def _require_range(name: str, value: int, low: int, high: int, recorded: Recorded) -> None:
    tokens = recorded.num_tokens
    if value < low or (value > high and tokens):
        allowed = f"{low} to {high}" if tokens else f"{low} or more"
        raise TraceError(f"{name} {value} is out of range; expected {allowed}.")
