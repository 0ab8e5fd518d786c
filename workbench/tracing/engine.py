"""What tracing needs of a loaded model, beside what generating needs."""

from __future__ import annotations

from typing import Any, Protocol

from workbench.conversation import Prompt
from workbench.generation.engine import Engine
from workbench.traces.trace import Trace


class TracedEngine(Engine, Protocol):
    """A loaded model whose traces say what made them; `workbench.Pangu` is one.

    Attributes
    ----------
    receipt : Receipt
        Its `summary` goes into the trace.
    streaming : Streaming or None
        None where all weights are in memory.
    checkpoint : Checkpoint
    bits, quant_type, fingerprint
        What was loaded, and of which files.
    """

    receipt: Any
    streaming: Any
    checkpoint: Any
    quant_type: str
    fingerprint: str

    @property
    def bits(self) -> int: ...

    def encode(self, prompt: Prompt, thinking: str = "slow") -> list[int]:
        """Token ids of a text, of a conversation, or ids as they are."""

    def trace(self, prompt: Prompt) -> Trace:
        """Run a text once and keep what the model did."""

    def versions(self) -> dict[str, str]:
        """What results depend on beside the weights."""
