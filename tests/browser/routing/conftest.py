"""Fixtures of these tests. The routing view's script in a real browser."""

import pytest

from tests.helpers.made_up import made_up_trace


@pytest.fixture(scope="module")
def trace():
    return made_up_trace(tokens=40)
