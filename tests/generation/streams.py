"""What these tests share. Generation equals transformers' own, can be repeated, and stops when told."""

IDS = [1, 45, 99, 7, 300, 45, 211]


def endless(monkeypatch):
    monkeypatch.setattr("workbench.generation.stream.end_ids", lambda _pangu: set())
