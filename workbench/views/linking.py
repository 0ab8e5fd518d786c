"""One selection for several views of a trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import traitlets

from workbench.errors import TraceError
from workbench.traces.trace import Trace
from workbench.views.attention.view import AttentionView
from workbench.views.routing.view import RoutingView
from workbench.views.shared.pages import linked_page, written
from workbench.wording import counted

LINKED = ("token", "layer", "head")


def link(*views: Any) -> Link:
    """Let views of one trace share their selection: token, layer and head.

    What is selected in one is selected in every other that has such a thing: a RoutingView has a
    token and a layer, an AttentionView token, layer and head, a HeadScoresView layer and head. A
    value that a view does not have, such as a layer without recorded attention, leaves that view
    where it is. At first all take what the first view has selected.

    Returns
    -------
    A `Link`: `unlink()` ends it, `to_html()` writes a page of the views, linked without a kernel.

    Raises
    ------
    TraceError
        For fewer than two views, something else than a view of a trace, a view that is still being
        filled or that shows several texts, or views of different traces. Traces of the same tokens
        by the same model, in another precision too, are not different.
    """
    return Link(*views)


class Link:
    """Views that share their selection; see `link`.

    Attributes
    ----------
    views : list
    """

    def __init__(self, *views: Any) -> None:
        _require_one_trace(views)
        self.views = list(views)
        self._names = {name: [view for view in views if view.has_trait(name)] for name in LINKED}
        for name, members in self._names.items():
            chosen = [view for view in members if getattr(view, name) >= 0]
            if chosen:
                self._pass_on(name, chosen[0])
            for view in members:
                view.observe(self._changed, name)

    def __repr__(self) -> str:
        shared = [name for name, members in self._names.items() if len(members) > 1]
        kinds = ", ".join(type(view).__name__ for view in self.views)
        return f"Link({kinds}: {', '.join(shared) or 'unlinked'})"

    def unlink(self) -> None:
        """Let each view have its own selection again; a second time does nothing."""
        for name, members in self._names.items():
            for view in members:
                view.unobserve(self._changed, name)
        self._names = {}

    def to_html(
        self,
        path: str | Path | None = None,
        layers: str | Iterable[int] | None = None,
        heads: str | Iterable[int] | None = None,
        *,
        titles: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> str | None:
        """One self-contained page of all views, linked, without kernel or network.

        Parameters
        ----------
        path
            Where to write it; it is returned otherwise.
        layers, heads
            Of these every head can be looked at in each AttentionView that has recorded the layer,
            as in its `to_html`; few make a small page. A view that has none of the layers keeps
            the head that it shows.
        titles
            {title: view} in the order of the page; by default every view by its class.
        notes
            Lines of text above them.

        Raises
        ------
        TraceError
            For a layer that no AttentionView has recorded or a head that is not there, or if there
            is no AttentionView to hold it.
        """
        layers, heads = (
            list(numbers)
            if isinstance(numbers, Iterable) and not isinstance(numbers, str)
            else numbers
            for numbers in (layers, heads)
        )
        if titles is None:
            titles = {}
            for view in self.views:
                kind = type(view).__name__
                titles[kind if kind not in titles else f"{kind} {len(titles) + 1}"] = view
        shown = list(titles.values())
        sharing = {
            name: [
                accepted(view, name) if any(view is m for m in members) else None for view in shown
            ]
            for name, members in self._names.items()
        }
        attention = {n: view for n, view in enumerate(shown) if isinstance(view, AttentionView)}
        chosen = {
            place: _chosen(view, layers, heads, attention.values())
            for place, view in attention.items()
        }
        if not chosen and (layers is not None or heads is not None):
            raise TraceError(
                "layers= and heads= choose what an AttentionView of the page contains; there is none."
            )
        opening = next((opens for _, opens in chosen.values() if opens), {})
        parts = []
        for place, view in enumerate(shown):
            questions, own = chosen.get(place, (None, {}))
            follows = {
                name: value
                for name, value in opening.items()
                if name in sharing and value in (sharing[name][place] or [])
            }
            parts.append(view.static(questions, follows | own))
        page = linked_page(list(titles), parts, sharing, notes)
        return written(page, path)

    def _changed(self, change: Any) -> None:
        self._pass_on(change["name"], change["owner"])

    def _pass_on(self, name: str, source: Any) -> None:
        value = getattr(source, name)
        for view in self._names[name]:
            if view is not source and accepts(view, name, value):
                setattr(view, name, value)


def _chosen(view: AttentionView, layers: Any, heads: Any, views: Iterable[AttentionView]) -> Any:
    """As `view.chosen`; layers that only others of the `views` have recorded are left to them."""
    if layers is not None and not isinstance(layers, str):
        elsewhere = {layer for other in views for layer in other.recorded.layers}
        elsewhere.difference_update(view.recorded.layers)
        kept = [layer for layer in layers if layer not in elsewhere]
        if layers and not kept:
            questions, _ = view.chosen([view.layer], [view.head])
            return questions, {"layer": view.layer, "head": view.head}
        layers = kept
    return view.chosen(layers, heads)


def accepts(view: Any, name: str, value: int) -> bool:
    """Whether a view can select this value."""
    try:
        view.traits()[name]._validate(view, value)  # its type, and the class's own validator
    except TraceError:
        return False
    return True


def accepted(view: Any, name: str) -> list[int]:
    """All values that a view can select, -1 for nothing among them if it can."""
    trace = view.trace
    size = {"token": trace.num_tokens, "layer": trace.num_layers, "head": trace.num_heads}[name]
    return [value for value in range(-1, size) if accepts(view, name, value)]


def _require_one_trace(views: tuple[Any, ...]) -> None:
    if len(views) < 2:
        raise TraceError(f"{len(views)} views; expected at least two to link.")
    for view in views:
        if not (isinstance(view, traitlets.HasTraits) and view.has_trait("layer")):
            raise TraceError(
                f"a {type(view).__name__} cannot be linked; expected a RoutingView, an "
                "AttentionView or a HeadScoresView."
            )
        if view.trace is None:
            raise TraceError(
                f"this {type(view).__name__} is not finished; link it when view.wait() has "
                "returned its trace."
            )
        if isinstance(view, RoutingView) and len(view.routing.documents) > 1:
            raise TraceError(
                f"this {type(view).__name__} shows {len(view.routing.documents)} texts, and only "
                "views of one trace can be linked."
            )
    for one, other in combinations(views, 2):  # two may each share another trace with a third
        if not any(_same(a, b) for a in _traces(one) for b in _traces(other)):
            raise TraceError(
                f"{type(one).__name__} shows {_said(one.trace)} and {type(other).__name__} shows "
                f"{_said(other.trace)}; only views of one trace can be linked."
            )


def _traces(view: Any) -> list[Trace]:
    return getattr(view, "traces", [view.trace])


def _same(a: Trace, b: Trace) -> bool:
    if a is b:
        return True
    same_model = a.model_name == b.model_name and a.config == b.config
    return same_model and a.token_ids.tolist() == b.token_ids.tolist()


def _said(trace: Trace) -> str:
    beginning = "".join(trace.pieces[:8])
    return f"{counted(trace.num_tokens)} of {trace.model_name} ({beginning!r}…)"
