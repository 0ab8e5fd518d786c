"""Bytes in words and back, and tables of them."""

from __future__ import annotations

import math
import re

import pandas as pd

from workbench.errors import QuantizationError

LEAST_BARE = 10_000  # bytes that may be written without a unit


def format_table(frame: pd.DataFrame) -> str:
    """A plan's or a receipt's frame as text."""
    formats = {
        "parameters": "{:,}".format,
        "bytes": "{:,}".format,
        "kept_bytes": "{:,}".format,
        "quantized_share": "{:.1%}".format,
    }
    return frame.to_string(index=False, formatters={k: formats[k] for k in formats if k in frame})


def format_size(nbytes: int) -> str:
    """Bytes in the largest unit of which there is one: 7.90 GB, 224.26 KB."""
    unit, name = next(
        (unit, name)
        for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (0, "KB"))
        if nbytes >= unit
    )
    return f"{nbytes / (unit or 1e3):.2f} {name}"


def size_to_ask_for(nbytes: int) -> str:
    """A size that `size_in_bytes` reads, not below `nbytes`."""
    unit, name = (1e7, "GB") if nbytes >= 1e9 else (1e4, "MB") if nbytes >= 1e6 else (10, "KB")
    return f"{math.ceil(nbytes / unit) / 100:.2f}{name}"


def size_in_bytes(text: str | float) -> int:
    """Bytes of a size such as "8GB", "500 MB" or 2e9; decimal units.

    Raises
    ------
    QuantizationError
        If it is no size, or a number so small that its unit must have been forgotten.
    """
    match = re.fullmatch(r"\s*([\d.]+(?:e\+?\d+)?)\s*([KMGT]?)(B?)\s*", str(text), re.IGNORECASE)
    try:
        size = int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))
        if not size:
            raise ValueError("nothing")
    except (TypeError, ValueError, OverflowError) as error:
        raise QuantizationError(
            f"{text!r} is not a size; expected for example 8GB or 500MB."
        ) from error
    if size < LEAST_BARE and not match[2] and not match[3]:
        raise QuantizationError(
            f"{text!r} has no unit and would be {size} bytes; write {match[1]}GB for gigabytes."
        )
    return size
