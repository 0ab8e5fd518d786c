"""Figures as notebooks show them, and texts of models in them: in lines, and as they are."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Iterator
from functools import cache

from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

CHINESE = (
    "Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "SimHei",
    "WenQuanYi Micro Hei", "Noto Serif CJK SC",
)  # fmt: skip
CONTROLS = {ord(c): " " for c in map(chr, range(32)) if c != "\n"}
LABELLED_TOKENS = 60  # more pieces than this cannot be read along an axis


class PrintFigure(Figure):
    """A figure that a notebook shows by itself: plain ones need `%matplotlib inline` there.

    Its texts are drawn in `fonts()`: tokens and names may be Chinese.
    """

    def draw(self, renderer: RendererBase) -> None:
        for text in self.findobj(Text):
            text.set_family(fonts())
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return png(self, dpi=100)


def png(figure: Figure, dpi: int) -> bytes:
    """The figure as a PNG file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():  # a font without Chinese is no news to the reader
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(stream, format="png", dpi=dpi, bbox_inches="tight")
    return stream.getvalue()


def for_print(text: str, width: int) -> str:
    """In lines of at most `width` letters, of which a Chinese character takes two.

    Matplotlib's own wrapping measures the rest of the text for every line, which takes many seconds
    for a long one. What it cannot draw is replaced, and "$" begins no formula.
    """
    text = text.encode("utf-8", "replace").decode("utf-8").translate(CONTROLS)
    lines = [line for part in text.split("\n") for line in _lines(part, width)]
    return "\n".join(lines).replace("$", r"\$")


def printable(piece: str) -> str:
    """A piece as a label: spaces and new lines shown, dollar signs not read as mathematics."""
    return piece.replace(" ", "␣").replace("\n", "⏎").replace("$", r"\$")


@cache
def fonts() -> tuple[str, ...]:
    """Matplotlib's own font, and behind it one with Chinese characters if this machine has any."""
    there = set(fontManager.get_font_names())
    return ("sans-serif", *[name for name in CHINESE if name in there][:1])


def _lines(text: str, width: int) -> Iterator[str]:
    """Broken at spaces where there are any."""
    start, space, taken = 0, -1, 0  # of the line: where it begins, its last space, its letters
    for place, character in enumerate(text):
        wide = _letters(character)
        if taken + wide > width and place > start:
            end = space if space > start else place
            yield text[start:end]
            start = end + 1 if end == space else end
            taken = sum(_letters(c) for c in text[start:place])
        if character == " ":
            space = place
        taken += wide
    yield text[start:]


def _letters(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
