"""Fixtures of these tests. The playground in Python."""

import pytest

from workbench.views import Playground


@pytest.fixture
def play(moe, tmp_path, monkeypatch):
    """A raw text, never ended by the model itself, few tokens."""
    monkeypatch.chdir(tmp_path)
    view = Playground(moe, text="To be", temperature=1.0, max_new_tokens=6, seed=3)
    view.logit_bias = [(moe.tokenizer.eos_token_id, -100.0)]
    view.told = []
    view.send = lambda content, buffers=None: view.told.append(content)
    return view
