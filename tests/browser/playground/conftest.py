"""Open pages of a playground and of a comparison."""

import pytest

from tests.browser.playground.pages import page_of
from workbench.views import ComparisonView, Playground


@pytest.fixture
def play(moe, tmp_path, monkeypatch, watched):
    """An open page of a playground with a prompt and nothing generated yet."""
    monkeypatch.chdir(tmp_path)
    page = watched.open(page_of(Playground(moe, "What is 2 + 2?")), tmp_path)
    page.evaluate("sent.length = 0")
    return page


@pytest.fixture
def compared(moe, watched, tmp_path):
    """An open page of a comparison of two columns."""
    view = ComparisonView(moe, "What is 2 + 2?", {"one": {}, "two": {"temperature": 0.0}})
    page = watched.open(page_of(view), tmp_path)
    page.evaluate("sent.length = 0")
    return page
