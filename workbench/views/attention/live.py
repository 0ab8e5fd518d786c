"""Recording attention while a model generates, token by token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workbench.errors import TraceError
from workbench.traces.trace import Trace
from workbench.views.attention.limits import some_of
from workbench.views.attention.recorded import Recorded
from workbench.views.shared.news import layers_told

if TYPE_CHECKING:
    from workbench.generation.sampling import Sampling
    from workbench.generation.steps import Step


class TracedModel(Protocol):
    """A loaded model whose generation can be traced; `workbench.Pangu` is one."""

    tokenizer: Any

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> Any: ...

    def encode(self, prompt: Any, thinking: str = "slow") -> list[int]:
        """Token ids of a text, of a conversation, or ids as they are."""

    def trace(self, prompt: Any, *settings: Any, **more_settings: Any) -> Trace:
        """Run a text, go on with it, and keep what the model did; `on_step` hears of every token."""


def empty_recording(model: TracedModel, attention: str | Sequence[int]) -> Recorded:
    """A text without tokens of the layers that are to be recorded, "all" or numbers.

    Raises
    ------
    TraceError
        For layers that are not there, or none.
    """
    config = model.config
    layers = some_of("layer", attention, range(config.num_hidden_layers))
    if not layers:
        raise TraceError('no layers to show; expected attention="all" or some numbers.')
    return Recorded(model.name, layers, config.num_attention_heads, config.num_key_value_heads)


def recording(
    model: TracedModel,
    ids: list[int],
    max_new_tokens: int,
    layers: list[int],
    sampling: Sampling | None,
    stop: threading.Event,
    append: Callable[[Sequence[str], Mapping[str, np.ndarray], str], None],
    tell: Callable[[str], None],
) -> Trace:
    """Generate, and hand on the tokens as they come.

    Parameters
    ----------
    append
        Gets pieces, their queries and keys, and the kind of their stretch.
    tell
        Gets the layer that a model on disk has run last, in words.
    """
    waiting = [("prompt", model.tokenizer.pieces(ids))]

    def on_step(step: Step, arrays: dict[str, np.ndarray]) -> None:
        span, pieces = waiting.pop()  # a token's queries come with the step after it
        append(pieces, arrays, span)
        waiting.append((step.span, [step.piece]))

    with layers_told(model, tell):
        return model.trace(
            ids, max_new_tokens, layers, sampling=sampling, stop=stop, on_step=on_step
        )
