"""What is trained, on which mixtures of text, in which phases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKPOINTS = Path(__file__).parent / "checkpoints"
VOCABULARY = 6144
CONTEXT = 1024  # tokens of one training sequence
BATCH = 4  # sequences a step
MIXTURE = {
    "english": 0.14,
    "python": 0.5,
    "french": 0.09,
    "chinese": 0.13,
    "arithmetic": 0.05,
    "chat": 0.09,
}
# Sums in the chat format are learned late: the second phase shows more of them.
CHAT_MIXTURE = {
    "english": 0.09,
    "python": 0.43,
    "french": 0.06,
    "chinese": 0.08,
    "arithmetic": 0.04,
    "chat": 0.3,
}


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own warm-up, cosine and mixture; `peak` is its largest rate."""

    steps: int
    peak: float
    mixture: dict[str, float]


@dataclass(frozen=True)
class Recipe:
    """What is trained, and in which phases."""

    config: dict[str, Any]
    phases: tuple[Phase, ...]
    warmup: int = 100
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase that a step belongs to, and its number within the phase."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise IndexError(f"the recipe has {self.steps} steps")


SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 192,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
}
RECIPES = {
    "demo": Recipe(
        {
            **SHARED,
            "num_hidden_layers": 4,
            "num_experts": 64,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 64,
            "shared_expert_intermediate_size": 256,
        },
        (Phase(2600, 3e-3, MIXTURE), Phase(1100, 1.5e-3, CHAT_MIXTURE)),
    ),
    "demo-dense": Recipe(
        {
            **SHARED,
            "hidden_size": 256,
            "num_attention_heads": 8,
            "num_hidden_layers": 6,
            "intermediate_size": 576,
        },
        (Phase(2600, 3e-3, MIXTURE), Phase(1100, 1.5e-3, CHAT_MIXTURE)),
    ),
}
