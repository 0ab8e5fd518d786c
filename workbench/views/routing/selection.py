"""What is selected and filtered in a routing view: all that its tables read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.views.routing.numbers import Routing


@dataclass(frozen=True, eq=False)
class Selection:
    """The traits of a `RoutingView` at one moment, under its names, and its numbers.

    Attributes
    ----------
    routing : Routing
    kept : numpy.ndarray
        [token] bool over all documents: which pass the filters.
    """

    routing: Routing
    kept: np.ndarray
    document: int
    token: int
    layer: int
    expert: int
    group: int
    span: str
    phase: str
    search: str
    compare: str
