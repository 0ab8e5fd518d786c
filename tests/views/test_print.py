"""Texts in figures: their lines, and what cannot be drawn."""

import io
import warnings

from IPython.core.formatters import PNGFormatter
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.helpers.made_up import attended_trace, made_up_trace
from workbench.views import AttentionView, Playground, expert_load_bars
from workbench.views.shared.printing import PrintFigure, fonts, for_print


def test_a_notebook_shows_a_figure_without_being_told_to():
    figure = expert_load_bars(made_up_trace(), layer=1)
    assert PNGFormatter()(figure).startswith(b"\x89PNG")
    assert PNGFormatter()(Figure()) is None  # why there is a figure of our own
    assert isinstance(figure, PrintFigure)


def test_every_text_of_a_figure_has_chinese_characters(monkeypatch):
    monkeypatch.setattr(
        "workbench.views.shared.printing.fonts", lambda: ("sans-serif", "a Chinese one")
    )
    figure = AttentionView(attended_trace()).figure()
    figure._repr_png_()
    texts = {text.get_text(): text.get_fontfamily() for text in figure.findobj(Text)}
    assert {"␣床", figure.axes[0].get_xlabel(), figure.get_suptitle()} <= set(texts)
    assert {tuple(family) for family in texts.values()} == {("sans-serif", "a Chinese one")}


def test_lines_break_at_spaces_and_chinese_takes_twice_the_room():
    assert for_print("to be or not to be", 7) == "to be\nor not\nto be"
    assert for_print("incomprehensible", 6) == "incomp\nrehens\nible"
    assert for_print("床前明月光 moon", 6) == "床前明\n月光\nmoon"
    assert for_print("one\n\ntwo", 9) == "one\n\ntwo"
    assert for_print("a  b", 9) == "a  b"
    assert for_print("", 9) == ""


def test_no_character_is_lost():
    text = "春眠不觉晓 spring sleep, 处处闻啼鸟 everywhere birds " * 9
    for width in (1, 2, 3, 7, 40):
        lines = for_print(text, width).split("\n")
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert max(map(len, lines)) <= width


def test_what_matplotlib_cannot_draw_is_replaced_and_no_formula_begins():
    shown = for_print("$x$ \ud83d\x00\x1b[31m", 40)
    assert shown == r"\$x\$ ?  [31m"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure = Figure()
        figure.text(0, 1, shown, family=fonts())
        figure.savefig(io.BytesIO(), format="png")
    assert said == []


def test_a_long_chinese_text_is_not_measured_line_by_line(moe):
    play = Playground(moe, text="床前明月光" * 2000, history=None)
    shown = play.figure().texts[0]
    assert not shown.get_wrap()  # it would measure the whole rest for every line
    lines = shown.get_text().splitlines()
    assert sum(line.count("光") for line in lines) == 2000
    assert max(map(len, lines)) == 55
