"""Prompts with {{variables}}, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from workbench.errors import GenerationError

# \{{ is two braces as they are; any other {{ must begin a variable.
TOKEN = re.compile(r"(\\\{\{)|\{\{\s*([^\W\d]\w*)\s*\}\}|(\{\{.{0,20})", re.DOTALL)


@dataclass(frozen=True)
class Template:
    """A text with {{variables}}; "\\{{" stands for two braces as they are.

    Attributes
    ----------
    text : str
    variables : tuple of str
        In the order of their first place.

    Raises
    ------
    GenerationError
        For braces that are no variable.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise GenerationError(f"the template is {self.text!r}; expected a text.")
        for match in TOKEN.finditer(self.text):
            if match[3]:
                line = self.text.count("\n", 0, match.start()) + 1
                raise GenerationError(
                    f"line {line} of the template has {match[3]!r}, which is not a variable; expected "
                    "a name of letters, digits and _ as in {{name}}, or \\{{ for the braces "
                    "themselves."
                )

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(dict.fromkeys(m[2] for m in TOKEN.finditer(self.text) if m[2]))

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with every variable replaced; braces in a value stay as they are."""
        return TOKEN.sub(lambda match: "{{" if match[1] else values[match[2]], self.text)


def checked_variants(
    variants: Mapping[str, Iterable[str]] | Sequence[Mapping[str, str]] | None,
    variables: Sequence[str],
) -> list[dict[str, str]]:
    """The values of all variables, one dict per prompt, in a stable order.

    Parameters
    ----------
    variants
        Lists of values by variable, of which every combination is taken, the last variable changing
        fastest; or the combinations themselves, as dicts.
    variables
        Those of the template.

    Raises
    ------
    GenerationError
        For a variable that has no values, one that the template does not use, a value that is no
        text, and for what stands there twice.
    """
    if isinstance(variants, Mapping):
        _same_names(variants, variables)
        lists = {name: _values(name, variants[name]) for name in variables}
        return [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    rows = []
    for number, row in enumerate([{}] if variants is None else variants, 1):
        if not isinstance(row, Mapping):
            raise GenerationError(
                f"variant {number} is {row!r}; expected a dict of variables and their texts."
            )
        _same_names(row, variables, f"variant {number}")
        values = {name: _text(name, row[name]) for name in variables}
        if values in rows:
            raise GenerationError(
                f"variant {number} is the same as variant {rows.index(values) + 1}; remove one."
            )
        rows.append(values)
    if not rows:
        raise GenerationError("there are no variants; pass at least one.")
    return rows


# -- inside -------------------------------------------------------------------------------------


def _same_names(given: Iterable[str], variables: Sequence[str], where: str = "variants") -> None:
    given = list(given)
    if missing := [name for name in variables if name not in given]:
        raise GenerationError(
            f"the template uses {{{{{missing[0]}}}}}, and {where} has no values for it; it has "
            f"{', '.join(map(repr, given)) or 'none'}."
        )
    if unused := [name for name in given if name not in variables]:
        used = ", ".join(f"{{{{{name}}}}}" for name in variables) or "no variables"
        raise GenerationError(
            f"{where} has values for {unused[0]!r}, which the template does not use; it uses {used}."
        )


def _values(name: str, given: Iterable[str]) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise GenerationError(f"the values of {name!r} are {given!r}; expected a list of texts.")
    values = [_text(name, value) for value in given]
    if not values:
        raise GenerationError(f"{name!r} has no values; pass at least one.")
    for place, value in enumerate(values):
        if value in values[:place]:
            raise GenerationError(f"{name!r} has the value {value!r} twice; remove one.")
    return values


def _text(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise GenerationError(f"a value of {name!r} is {value!r}; expected a text.")
    return value
