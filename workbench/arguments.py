"""Checks of what people pass."""

from __future__ import annotations

import operator
from typing import Any

from workbench.errors import TraceError, WorkbenchError


def whole_number(name: str, value: Any, error: type[WorkbenchError], expected: str) -> int:
    """`value` as an int, also from NumPy and torch; nothing is rounded.

    Raises
    ------
    WorkbenchError
        Of the class `error`, if it is no whole number; `expected` says what would be.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise error(f"{name} is {value!r}; expected {expected}.") from None


def require_loaded(pangu: Any) -> None:
    """That it is a model which can be traced.

    Raises
    ------
    TraceError
        If it is something else, or a model behind a server.
    """
    if callable(getattr(pangu, "missing", None)):  # as a server tells it
        raise TraceError(pangu.missing("trace"))
    if not all(hasattr(pangu, part) for part in ("config", "tokenizer", "trace")):
        raise TraceError(
            'expected a loaded model, for example pangu = wb.load("demo"); got '
            f"{type(pangu).__name__}."
        )
