"""Checks of what people pass."""

from __future__ import annotations

import operator
from typing import Any

from workbench.errors import WorkbenchError


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
