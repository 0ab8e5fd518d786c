"""Prompts in, text out, with the model's choices in view."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.errors import GenerationError, WorkbenchError
from workbench.views._widget import SCRIPTS, Answer, View

if TYPE_CHECKING:
    from workbench.generation import Generation, Step
    from workbench.pangu import Pangu


class Playground(View):
    """Type a prompt, watch it stream, stop it, and look at what else could have come.

    Generation runs in a thread, so that the kernel can hear Stop.

    Parameters
    ----------
    pangu
        A loaded model.

    Attributes
    ----------
    prompt, mode ("chat" or "raw"), thinking ("slow", "fast" or "auto"), temperature, top_p, top_k,
    seed, max_new_tokens
        The settings on screen, readable and settable from any cell.
    running : bool
        Whether a generation is going on.
    generation : Generation or None
        The last one, finished or stopped; None while one is running and after an error.
    """

    _script = SCRIPTS / "playground.js"
    _esm = _script
    prompt = traitlets.Unicode("").tag(sync=True)
    mode = traitlets.Enum(["chat", "raw"], "chat").tag(sync=True)
    thinking = traitlets.Enum(["slow", "fast", "auto"], "slow").tag(sync=True)
    temperature = traitlets.Float(0.6).tag(sync=True)
    top_p = traitlets.Float(0.95).tag(sync=True)
    top_k = traitlets.Int(50).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    max_new_tokens = traitlets.Int(128).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)

    def __init__(self, pangu: Pangu, **settings: Any) -> None:
        self.pangu = pangu
        self.generation: Generation | None = None
        self._messages: list[dict[str, Any]] = []  # of the last generation, to show it again
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        super().__init__(**settings)

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """Act on a button; a page that is new gets what there is to show."""
        kind = question.get("kind")
        if kind == "want":
            return {
                "kind": "replay",
                "model": self.pangu.name,
                "messages": list(self._messages),
            }, []
        if kind == "generate" and not self.running:  # a second click comes too late: nothing to do
            self.start()
        elif kind == "stop":
            self.stop()
        return None

    def start(self) -> None:
        """Begin to generate with the settings on screen; returns at once.

        Raises
        ------
        GenerationError
            If a generation is running.
        """
        if self.running:
            raise GenerationError("a generation is running; stop it first.")
        self._stop.clear()
        self._messages = []
        self.generation = None
        self.running = True
        self._thread = threading.Thread(target=self._run, name="playground", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the generation before its next token."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> Generation | None:
        """Wait for the generation that is running and return it."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.generation

    def table(self) -> pd.DataFrame:
        """One row per generated token: piece, span, log-probability and the best alternative."""
        steps = self.generation.steps if self.generation else ()
        return pd.DataFrame(
            {
                "piece": [step.piece for step in steps],
                "span": [step.span for step in steps],
                "logprob": [step.logprob for step in steps],
                "best": [step.alternatives[0].piece for step in steps],
                "best_logprob": [step.alternatives[0].logprob for step in steps],
            }
        )

    def figure(self) -> Figure:
        """Prompt and generated text for print."""
        figure = Figure(figsize=(8, 2.5), layout="constrained")
        text = self.generation.text if self.generation else ""
        shown = f"{self.pangu.name}\n\n{self.prompt}\n\n{text}".replace("$", r"\$")
        figure.text(0.01, 0.98, shown, va="top", wrap=True, fontsize=9)
        return figure

    def _prompt(self) -> str | Sequence[dict[str, str]]:
        if self.mode == "chat":
            return [{"role": "user", "content": self.prompt}]
        return self.prompt

    def _run(self) -> None:
        from workbench.generation import Sampling, finished

        steps: list[Step] = []
        started = time.perf_counter()
        try:
            if not self.prompt.strip():
                raise GenerationError("the prompt is empty; type something first.")
            sampling = Sampling(self.temperature, self.top_p, self.top_k, self.seed)
            ids = self.pangu.encode(self._prompt(), self.thinking)
            count = self.max_new_tokens
            self._tell({"kind": "start"})
            for step in self.pangu.stream(ids, count, sampling, stop=self._stop):
                steps.append(step)
                self._tell(_step_message(step))
            self.generation = finished(self.pangu, ids, tuple(steps), count)
            self._tell(
                {
                    "kind": "end",
                    "reason": self.generation.finish_reason,
                    "tokens": len(steps),
                    "seconds": time.perf_counter() - started,
                }
            )
        except WorkbenchError as error:
            self._tell({"kind": "error", "text": str(error)})
        except Exception as error:  # a thread's error would be lost: show it, then let it be seen
            self._tell({"kind": "error", "text": f"{type(error).__name__}: {error}"})
            raise
        finally:
            self.running = False

    def _tell(self, message: dict[str, Any]) -> None:
        self._messages.append(message)
        self.send(message)


def _step_message(step: Step) -> dict[str, Any]:
    return {
        "kind": "step",
        "piece": step.piece,
        "text": step.text,
        "logprob": step.logprob,
        "span": step.span,
        "alternatives": [
            {"piece": other.piece, "logprob": other.logprob, "kept": other.kept, "chosen": other.token_id == step.token_id}
            for other in step.alternatives
        ],
    }  # fmt: skip
