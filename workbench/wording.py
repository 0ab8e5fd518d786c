"""Words that several parts of the workbench print."""

from __future__ import annotations

from pathlib import Path


def counted(tokens: int) -> str:
    """So many tokens, in words."""
    return f"{tokens} token{'' if tokens == 1 else 's'}"


def titled(model_name: str) -> str:
    """What titles call a model: of a path its last part alone, else its name as it is."""
    path = Path(model_name)
    is_path = path.is_absolute() or model_name.startswith((".", "~"))
    return (is_path and path.name) or model_name
