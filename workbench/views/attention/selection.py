"""What an attention view shows at one moment: the recorded texts and what is selected of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from workbench.views.attention.recorded import Recorded


@dataclass(frozen=True)
class Selection:
    """Recorded texts and the settings of a view; see `AttentionView` for these.

    Attributes
    ----------
    recorded, other : Recorded
        The text, and the one that is compared with it, if there is one.
    shared : int or None
        First tokens that both have.
    names : (str, str)
        What tells both apart.
    """

    recorded: Recorded
    other: Recorded | None
    shared: int | None
    names: tuple[str, str]
    layer: int
    head: int
    token: int
    pins: list[int]
    zoom: list[int]
    scale: str
    blocks: str
    sink: int
    compare: str
    other_layer: int
    other_head: int

    @classmethod
    def of(cls, view: Any) -> Selection:
        """What is selected now in something that has all of it as attributes."""
        return cls(**{field.name: getattr(view, field.name) for field in fields(cls)})

    @property
    def part(self) -> tuple[int, int, int, int]:
        """First row, end row, first column and end column of the map that is shown."""
        tokens = self.recorded.num_tokens
        top, bottom, left, right = self.zoom or (0, tokens, 0, tokens)
        return top, bottom, left, right

    def weights(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights of some query tokens and those compared with them, [row, token] float32.

        The second is None while nothing is compared, and NaN where the other trace has other
        tokens.
        """
        rows = np.asarray(rows, dtype=int)
        weights = self.recorded.rows(self.layer, self.head, rows)
        if self.compare == "none":
            return weights, None
        if self.compare == "head":
            return weights, self.recorded.rows(self.other_layer, self.other_head, rows)
        subtracted = np.full_like(weights, np.nan)
        known = rows < self.shared
        part = self.other.rows(self.layer, self.head, rows[known])[:, : self.shared]
        subtracted[np.ix_(known, range(self.shared))] = part
        subtracted[known, self.shared :] = 0
        return weights, subtracted
