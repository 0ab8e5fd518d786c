"""`load`: from a name or a folder to a Pangu model that can be run, traced and looked into."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench import capture, generation
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.errors import QuantizationError, TokenizerError
from workbench.generation import Generation, Sampling, Step
from workbench.models import PanguTokenizer
from workbench.quantization import (
    Plan,
    Receipt,
    choose_bits,
    load_model,
    make_plan,
    make_receipt,
    require_fit,
)

if TYPE_CHECKING:
    from workbench.trace import Trace

Prompt = str | Sequence[int] | Sequence[dict[str, str]]


@dataclass(frozen=True, eq=False)
class Pangu:
    """A loaded model with its tokenizer and its receipt.

    Attributes
    ----------
    model : torch.nn.Module
        A transformers model in evaluation mode.
    tokenizer : PanguTokenizer
    receipt : Receipt
        What is stored how, and in how many bytes.
    plan : Plan
        What was expected before loading.
    checkpoint : Checkpoint
    quant_type : str
        "nf4" or "fp4" at 4 bits.
    """

    model: Any
    tokenizer: PanguTokenizer
    receipt: Receipt
    plan: Plan
    checkpoint: Checkpoint
    quant_type: str

    @property
    def name(self) -> str:
        """What the checkpoint was called when it was loaded."""
        return self.checkpoint.name

    @property
    def bits(self) -> int:
        """4, 8 or 16."""
        return self.plan.bits

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.model.embed_tokens.weight.device

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    def __repr__(self) -> str:
        return f"Pangu({self.name!r}, bits={self.bits}, device={str(self.device)!r})"

    def encode(self, prompt: Prompt, thinking: str = "slow") -> list[int]:
        """Token ids of a text, of a conversation, or ids as they are.

        Parameters
        ----------
        prompt
            A text, in which names such as "[unused9]" are read as special tokens; a list of token
            ids; or a list of messages, which go through the chat template.
        thinking
            For messages: "slow", "fast" or "auto"; see `PanguTokenizer.apply_chat_template`.

        Raises
        ------
        TokenizerError
            For anything else, and for ids outside the vocabulary.
        """
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, special=True)
        prompt = list(prompt)
        if prompt and all(isinstance(item, dict) for item in prompt):
            return self.tokenizer.apply_chat_template(prompt, thinking=thinking)
        if prompt and all(isinstance(item, int) and not isinstance(item, bool) for item in prompt):
            size = self.config.vocab_size
            if outside := [item for item in prompt if not 0 <= item < size]:
                raise TokenizerError(f"token id {outside[0]} is outside the vocabulary of {size}.")
            return prompt
        raise TokenizerError(
            "the prompt is empty or of no known kind; expected a text, a list of token ids, or a "
            'list of messages such as {"role": "user", "content": "…"}.'
        )

    def trace(
        self,
        prompt: Prompt,
        max_new_tokens: int = 0,
        attention: str | Sequence[int] | None = "all",
        top_k: int = 10,
        sampling: Sampling | None = None,
        thinking: str = "slow",
        stop: threading.Event | None = None,
        on_step: Callable[[Step, dict[str, np.ndarray]], None] | None = None,
    ) -> Trace:
        """Run a text once and keep what the model did; see `workbench.capture.trace`."""
        return capture.trace(
            self, prompt, max_new_tokens, attention, top_k, sampling, thinking, stop, on_step
        )

    def stream(
        self,
        prompt: Prompt,
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        thinking: str = "slow",
        stop: threading.Event | None = None,
        alternatives: int = 10,
    ) -> Iterator[Step]:
        """Generate token by token; see `workbench.generation.stream`."""
        ids = self.encode(prompt, thinking)
        return generation.stream(self, ids, max_new_tokens, sampling, stop, alternatives)

    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        thinking: str = "slow",
        stop: threading.Event | None = None,
    ) -> Generation:
        """Generate to the end of the answer, or to `max_new_tokens`."""
        ids = self.encode(prompt, thinking)
        return generation.generate(self, ids, max_new_tokens, sampling, stop)

    def save(self, folder: str | Path) -> None:
        """Write the checkpoint at these bits, in transformers' layout.

        The weights come from the source checkpoint, quantized again: the same bytes whether or
        not this model has run (a packed model could not give them back exactly). It takes as much
        memory again as the model itself.

        Raises
        ------
        QuantizationError
            If `folder` is the source checkpoint's own.
        """
        folder = Path(folder)
        if folder.exists() and folder.resolve() == self.checkpoint.path.resolve():
            raise QuantizationError(f"{folder} is the source checkpoint; save to another folder.")
        model = load_model(
            self.checkpoint, self.bits, str(self.device), self.quant_type, pack=False
        )
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load(
    name_or_path: str | Path,
    bits: int | None = None,
    device: str = "auto",
    quant_type: str = "nf4",
) -> Pangu:
    """Load a Pangu checkpoint.

    Parameters
    ----------
    name_or_path
        "demo", "demo-dense", a folder, or a Hugging Face repository id.
    bits
        4, 8, or 16 for as stored. By default 4, or what an already quantized file holds.
    device
        "auto" (CUDA if there is any, else the CPU), "cpu", "cuda" or "cuda:N". One device.
    quant_type
        At 4 bits "nf4" or "fp4", both with double quantization.

    Raises
    ------
    CheckpointError, TokenizerError, QuantizationError
        In plain words, before any weight is read wherever that is possible.
    """
    checkpoint = open_checkpoint(name_or_path)
    tokenizer = PanguTokenizer.from_pretrained(checkpoint.path)
    bits = choose_bits(checkpoint, bits)
    plan = make_plan(checkpoint, bits, device)
    require_fit(plan, checkpoint)
    model = load_model(checkpoint, bits, plan.device, quant_type)
    receipt = make_receipt(model, bits, plan.device, checkpoint.name)
    return Pangu(model, tokenizer, receipt, plan, checkpoint, quant_type)
