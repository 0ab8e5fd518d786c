"""Fixtures of these tests. A model behind an OpenAI-compatible server, against one on this machine that says what it is told."""

import pytest

from tests.helpers.fake_server import fake_server
from tests.server.answers import KEY


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_server() as script:
        yield script


@pytest.fixture
def locked(monkeypatch):
    with fake_server(key=KEY) as script:
        monkeypatch.setenv("PANGU_TEST_KEY", KEY)
        yield script
