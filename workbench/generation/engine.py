"""What generating needs of others: a loaded model, and something that records it while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from workbench.generation.sampling import Sampling
from workbench.generation.turn import Turn
from workbench.traces.trace import Trace

if TYPE_CHECKING:
    import torch


class Engine(Protocol):
    """A loaded model that generates; `workbench.Pangu` is one.

    Attributes
    ----------
    model : torch.nn.Module
        A transformers model for causal language modelling, in evaluation mode.
    tokenizer : PanguTokenizer
    config : transformers.PreTrainedConfig
    device : torch.device
        Where token ids go.
    turn : Turn
        One thread at a time generates.
    """

    model: Any
    tokenizer: Any
    turn: Turn

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    def computing(self) -> AbstractContextManager[None]:
        """Around all that the model computes: one at a time, without gradients."""


class Recorder(Protocol):
    """Keeps what the model does in every forward pass; `workbench.tracing.capture.Recorder` is one.

    Attributes
    ----------
    layers : tuple of int
        Whose queries and keys are kept.
    """

    layers: tuple[int, ...]

    def recording(self) -> AbstractContextManager[Any]:
        """Around forward passes that are to be kept."""

    def first(self, passes: int) -> Recorder:
        """What the first so many passes left, for another one to go on with."""

    def cut(self, passes: int) -> None:
        """Forget what came after the first so many passes."""

    def nbytes(self, tokens: int) -> int:
        """What a recording of so many tokens takes."""

    def arrays(self, first: int = 0) -> dict[str, Any]:
        """Routing and attention of the passes from the `first` one on."""

    def trace(
        self, token_ids: Sequence[int], prompt_length: int, top_k: int, sampling: Sampling
    ) -> Trace:
        """All of it as a Trace; `token_ids` are those that ran."""
