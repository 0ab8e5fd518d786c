"""`load`: from a name or a folder to a Pangu model that can be run, traced and looked into."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.arguments import whole_number
from workbench.checkpoints.checkpoint import Checkpoint, open_checkpoint
from workbench.checkpoints.fingerprint import fingerprint, versions
from workbench.conversation import Prompt, require_thinking
from workbench.errors import QuantizationError, TokenizerError
from workbench.generation import stream
from workbench.generation.prefixes import Prefixes
from workbench.generation.recipe import Recipe
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation, Step
from workbench.generation.stream import Stream
from workbench.generation.threads import alone, let_go
from workbench.generation.turn import Turn
from workbench.loading import conversion
from workbench.loading.checking import checked
from workbench.loading.filling import Filler, load_model
from workbench.loading.plan import Plan, make_plan
from workbench.loading.receipt import Receipt, make_receipt, make_streamed_receipt
from workbench.loading.sizes import format_size
from workbench.loading.streaming import Streaming
from workbench.models import PanguTokenizer
from workbench.models.tokenization_pangu import require_vocabulary
from workbench.traces.trace import Trace
from workbench.tracing import capture
from workbench.tracing.recording import attention_layers

SMALL = 50_000_000  # parameters


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
    streaming : Streaming or None
        Which weights are in memory, where they stay on disk: `held_bytes`, `hit_rate`.
    fingerprint : str
        Of the checkpoint's files; see `workbench.checkpoints.fingerprint.fingerprint`.
    turn : Turn
        One thread at a time generates.
    """

    model: Any
    tokenizer: PanguTokenizer
    receipt: Receipt
    plan: Plan
    streaming: Streaming | None = None
    fingerprint: str = ""
    turn: Turn = field(default_factory=Turn)

    @property
    def name(self) -> str:
        """What the checkpoint was called when it was loaded."""
        return self.checkpoint.name

    @property
    def checkpoint(self) -> Checkpoint:
        """The files that were loaded."""
        return self.plan.checkpoint

    @property
    def bits(self) -> int:
        """4, 8 or 16."""
        return self.plan.bits

    @property
    def quant_type(self) -> str:
        """ "nf4" or "fp4", at 4 bits."""
        return self.plan.quant_type

    @property
    def device(self) -> torch.device:
        """Where token ids go, and with them the weights (or the first of them)."""
        weight = self.model.model.embed_tokens.weight
        return torch.device(self.plan.device) if weight.is_meta else weight.device

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    @cached_property
    def is_small(self) -> bool:
        """Whether one thread of the CPU computes about as fast as several: the demo models are."""
        return self.device.type == "cpu" and self.plan.frame["parameters"].sum() < SMALL

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Around all that a model computes: one at a time, no gradients, a small one on one thread."""
        with self.turn.passes, torch.inference_mode(), self._on_its_threads():
            yield

    def versions(self) -> dict[str, str]:
        """What results depend on beside the weights; see `workbench.checkpoints.fingerprint.versions`."""
        with self._on_its_threads():
            return versions()

    def _on_its_threads(self) -> AbstractContextManager[None]:
        return alone() if self.is_small else nullcontext()

    def __repr__(self) -> str:
        where = "" if self.streaming is None else f", from disk: {self.streaming}"
        if self.streaming is None and self.plan.allowed_bytes is not None:
            where = f", whole in memory: {format_size(self.receipt.nbytes)}"
        return f"Pangu({self.name!r}, bits={self.bits}, device={str(self.device)!r}{where})"

    def encode(self, prompt: Prompt, thinking: str = "slow") -> list[int]:
        """Token ids of a text, of a conversation, or ids as they are.

        Parameters
        ----------
        prompt
            A text, in which names such as "[unused9]" are read as special tokens; token ids in a
            list, a NumPy array or a tensor of one axis; or a list of messages, which go through
            the chat template.
        thinking
            For messages: "slow", "fast" or "auto"; see `PanguTokenizer.apply_chat_template`.

        Raises
        ------
        TokenizerError
            For anything else, for ids outside the vocabulary, and for another `thinking`.
        """
        require_thinking(thinking)
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, special=True)
        expected = (
            "expected a text, a list of token ids, or a list of messages such as "
            '{"role": "user", "content": "…"}'
        )
        if hasattr(prompt, "tolist"):
            prompt = prompt.tolist()  # NumPy and torch
        if not isinstance(prompt, Iterable) or isinstance(prompt, bytes | bytearray | dict | set):
            raise TokenizerError(f"the prompt is a {type(prompt).__name__}; {expected}.")
        prompt = list(prompt)
        if not prompt:
            raise TokenizerError(f"the prompt is empty; {expected}.")
        if all(isinstance(item, dict) for item in prompt):
            return self.tokenizer.apply_chat_template(prompt, thinking=thinking)
        size = self.config.vocab_size
        ids = [
            whole_number("an item of the prompt", item, TokenizerError, f"a token id; {expected}")
            for item in prompt
        ]
        if outside := [token for token in ids if not 0 <= token < size]:
            raise TokenizerError(f"token id {outside[0]} is outside the vocabulary of {size}.")
        return ids

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
        **settings: Any,
    ) -> Trace:
        """Run a text once and keep what the model did; see `workbench.tracing.capture.trace`."""
        return capture.trace(
            self, prompt, max_new_tokens, attention, top_k, sampling, thinking, stop, on_step,
            **settings,
        )  # fmt: skip

    def stream(
        self,
        prompt: Prompt,
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        thinking: str = "slow",
        stop: threading.Event | None = None,
        alternatives: int = 10,
        *,
        stop_strings: str | Iterable[str] = (),
        begun: Iterable[int | Step] = (),
        prefixes: Prefixes | None = None,
        record: bool | Sequence[int] = False,
    ) -> Stream:
        """Generate token by token; see `workbench.generation.stream.stream`.

        `record` is what `Stream.trace` will hold: True for routing and all queries and keys, a list
        of layers for the queries and keys of these, [] for the routing alone.

        >>> stream = pangu.stream("To be", sampling=wb.Sampling(seed=3))
        >>> for step in stream:
        ...     print(step.text, end="")
        >>> stream.generation.finish_reason
        """
        ids = self.encode(prompt, thinking)
        recorder = None
        if record is not False:
            wanted = attention_layers(
                "all" if record is True else record, self.config.num_hidden_layers
            )
            recorder = capture.Recorder(self, wanted)
        steps = stream.stream(
            self, ids, max_new_tokens, sampling, stop, alternatives, stop_strings, begun, prefixes,
            recorder,
        )  # fmt: skip
        request = steps.request
        steps.recipe = Recipe(
            self.name, self.fingerprint, self.bits, self.quant_type, self.plan.device,
            _as_given(prompt, ids), tuple(ids), thinking, request.sampling, request.max_new_tokens,
            request.stop_strings, request.begun_ids, self.versions(), memory=self.plan.memory,
        )  # fmt: skip
        return steps

    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        thinking: str = "slow",
        stop: threading.Event | None = None,
        alternatives: int = 10,
        **settings: Any,
    ) -> Generation:
        """Generate to the end of the answer, or to `max_new_tokens`; settings as for `stream`.

        An interruption, and a GenerationError while it runs, carry what was generated until then:
        `sys.last_value.generation` in a notebook.
        """
        return stream.completed(
            self.stream(prompt, max_new_tokens, sampling, thinking, stop, alternatives, **settings)
        )

    def save(self, folder: str | Path) -> None:
        """Write the checkpoint at these bits, in transformers' layout.

        The weights come from the source checkpoint, quantized again: the same bytes whether or
        not this model has run (a packed model could not give them back exactly).

        Raises
        ------
        CheckpointError
            If a file of the source changed since the model was loaded.
        QuantizationError
            If `folder` is not empty; nothing is overwritten. If the model stays as Ascend's file
            stores it, which is no layout of transformers.
        """
        if self.checkpoint.stays_as_stored(self.bits):
            raise QuantizationError(
                f"{self.name} is loaded as {self.checkpoint.path} stores it ({self.checkpoint.stored}). "
                "To keep it like this, copy that folder; `python -m workbench quantize` writes it for "
                "bitsandbytes, and load(…, bits=…).save(folder) in other bits."
            )
        quant_type = self.quant_type if self.bits == 4 else None
        conversion.quantize_checkpoint(self.checkpoint, folder, self.bits, quant_type)


def load(
    name_or_path: str | Path,
    bits: int | None = None,
    device: str = "auto",
    quant_type: str | None = None,
    memory: str | float | None = None,
) -> Pangu:
    """Load a Pangu checkpoint.

    Parameters
    ----------
    name_or_path
        "demo", "demo-dense", a folder, or a Hugging Face repository id.
    bits
        4, 8, or 16 for as stored. By default 4, or what an already quantized file holds. An
        Ascend file stays as stored at its own bits (symmetric 8 bit in LLM.int8(), whose weights
        are the same numbers); at fewer or more it is quantized again, which a warning says, and
        at 16 it is dequantized.
    device
        "auto" (CUDA if there is any, else the CPU), "cpu", "cuda", "cuda:N", or several as
        "cuda:0+cuda:1". "auto" spreads the model over all GPUs, as accelerate shares it out.
    quant_type
        At 4 bits "nf4" or "fp4", both with double quantization. By default "nf4", or what an
        already quantized file holds, which can be had in no other.
    memory
        The most that the weights may take at one time, for example "8GB", or "auto" for what is
        free. A larger model stays on disk and is read as it runs: the same results, only slower.
        See `workbench.loading.streaming.Streaming`.

    Raises
    ------
    CheckpointError, TokenizerError, QuantizationError
        In plain words, before any weight is read wherever that is possible.
    """
    checkpoint = open_checkpoint(name_or_path)
    tokenizer = PanguTokenizer.from_pretrained(checkpoint.path)
    require_vocabulary(tokenizer, checkpoint.config.vocab_size)
    plan = checked(make_plan(checkpoint, bits, device, quant_type, memory))
    # Before the weights: files that change later are refused.
    found = fingerprint(plan.checkpoint.path)
    if plan.memory_bytes is None:
        model, streaming = load_model(plan), None
        receipt = make_receipt(model, plan)
    else:
        streaming = Streaming(Filler(plan), plan.memory_bytes)
        model, receipt = streaming.filler.model, make_streamed_receipt(streaming)
        streaming.load_kept()
    let_go()
    return Pangu(model, tokenizer, receipt, plan, streaming, found)


def _as_given(prompt: Prompt, ids: list[int]) -> Any:
    """A prompt as a recipe keeps it: text and messages as they are, ids as plain numbers."""
    if isinstance(prompt, str):
        return prompt
    messages = tuple(dict(item) for item in prompt if isinstance(item, dict))
    return messages or tuple(ids)
