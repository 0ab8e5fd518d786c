"""Columns of a comparison: how they may be given, and what each has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling
from workbench.prompts.models import Model
from workbench.server.remote import as_taken

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logit_bias")


def named_columns(columns: Any, models: Sequence[str]) -> list[dict[str, Any]]:
    """What was given as a list of columns; by default every model, or of one the usual and greedy."""
    if columns is None:
        if len(models) > 1:
            columns = [{"label": label, "model": label} for label in models]
        else:
            columns = {"usual": {}, "greedy": {"temperature": 0.0}}
    if isinstance(columns, Mapping):
        columns = [
            {"label": label, **(vars(given) if isinstance(given, Sampling) else given)}
            for label, given in columns.items()
        ]
    return [dict(column) for column in columns]


def checked_columns(
    columns: Sequence[Mapping[str, Any]], models: Mapping[str, Model]
) -> list[dict[str, Any]]:
    """The columns with all their settings.

    Raises
    ------
    GenerationError
        For settings of another name, a label that stands twice, a model that is not there, or no
        column at all.
    """
    first = next(iter(models))
    known = {"label", "model", "thinking", "seed", *SAMPLING}
    found: list[dict[str, Any]] = []
    for place, given in enumerate(columns):
        if unknown := given.keys() - known:
            raise GenerationError(
                f"a column has no setting {sorted(unknown)[0]!r}; it has {', '.join(sorted(known))}."
            )
        model = given.get("model", first)
        if model not in models:
            raise GenerationError(f"there is no model {model!r}; there are {', '.join(models)}.")
        usual = as_taken(models[model], Sampling()).as_dict()
        column = {"label": f"column {place + 1}", "model": model, "thinking": "slow"}
        column |= {name: usual[name] for name in SAMPLING}
        column |= {name: value for name, value in given.items() if name != "seed"}
        column["logit_bias"] = [list(pair) for pair in column["logit_bias"]]
        if column["label"] in [other["label"] for other in found]:
            raise GenerationError(f"the label {column['label']!r} is used twice; choose another.")
        found.append(column)
    if not found:
        raise GenerationError("there is no column to generate; pass at least one.")
    return found
