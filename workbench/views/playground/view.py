"""Prompts in, text out, with the model's choices in view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.errors import GenerationError, WorkbenchError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Generation
from workbench.generation.turn import ask_turn
from workbench.prompts.history import History
from workbench.prompts.models import Model
from workbench.server.remote import as_taken
from workbench.views.playground import engine, messages
from workbench.views.playground.answers import Answers
from workbench.views.playground.panels import INSIDE
from workbench.views.shared.printing import PrintFigure, for_print
from workbench.views.shared.scripts import script
from workbench.views.shared.widget import Answer
from workbench.wording import titled

KEPT = 5  # alternatives of a token in the history, to be seen and chosen after a restart
# What can be done while it generates.
MEANWHILE = ("bias", "save_preset", "history", "export", "compare")


class Playground(Answers):
    """Type a prompt, watch it stream, stop it, see what else could have come, and go on from there.

    Every generation becomes a branch of a tree and a line of the history. Generation runs in a
    thread, so that the kernel can hear Stop; *Interrupt the kernel* stops it too.

    Parameters
    ----------
    pangu
        A loaded model, or what `workbench.connect` gives. What a server cannot give is disabled,
        and the page says why.
    history
        A `History`, the name of its file (with five alternatives of every token), or None to keep
        none.
    settings
        Any of the attributes below.

    Attributes
    ----------
    mode : "chat" or "raw"
        Whether the conversation or `text` is read.
    system, prompt : str
        The system prompt and the last user turn.
    turns : list of dict
        The turns between them, each {"role", "content"}.
    text : str
        What the model reads, special tokens by name. In chat mode it follows from the conversation;
        setting it changes to raw mode.
    thinking : "slow", "fast" or "auto"
    temperature, top_p, top_k, min_p, repetition_penalty, logit_bias, seed
        See `workbench.Sampling`; `sampling` is all of them.
    max_new_tokens, stop_strings
        See `workbench.generation.stream.stream`.
    preset : str
        Name of the settings on screen, but for the seed; "" if they are not those of a preset. Of
        several the one that was chosen.
    colour : "none", "probability", "entropy" or "surprisal"
        What the colours of the tokens tell.
    folded : bool
        Whether thinking is folded.
    token : int
        The selected token of the answer, -1 for none.
    panel : "", "routing", "attention", "compare", "python" or "history"
        What is open below; a widget there is `inside`.
    running : bool
        Whether a generation is going on.
    branches : Branches
        The tree of all generations.
    """

    _esm = script("playground")
    colour = traitlets.Enum(["none", "probability", "entropy", "surprisal"], "probability").tag(
        sync=True
    )
    folded = traitlets.Bool(False).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        pangu: Model,
        prompt: str = "",
        history: History | str | None = "pangu-history.jsonl",
        **settings: Any,
    ) -> None:
        kept = History(history, KEPT) if isinstance(history, str) else history
        super().__init__(pangu, prompt, kept, settings)

    # -- from Python ----------------------------------------------------------------------------

    @property
    def recipe(self) -> Recipe | None:
        """All that it takes to generate the text on screen again."""
        return self.generation.recipe if self.generation else None

    def start(self) -> None:
        """Begin to generate with what is on screen; returns at once.

        Raises
        ------
        GenerationError
            If a generation is running.
        """
        self._error = ""
        self._take_turn()
        self._begin(self._answer)

    def branch(self, place: int, instead: int | str | None = None) -> None:
        """Go on from a token of the answer on screen with another one; returns at once.

        Settings are those on screen, so a branch may try another temperature; the prompt is that
        of the answer.

        Parameters
        ----------
        place
            Of the token that is replaced; all before it stay.
        instead
            A token id, a text, or None to draw again (with another seed, for example).

        Raises
        ------
        GenerationError
            If a generation is running, or there is no such token.
        """
        self._require_idle()
        current = self.branches.current
        if current is None:
            raise GenerationError("there is no answer to branch from; generate one first.")
        if not 0 <= place < len(current.generation.steps):
            last = len(current.generation.steps) - 1
            raise GenerationError(f"there is no token {place}; the answer has tokens 0 to {last}.")
        begun = engine.begun(self.pangu, current.generation, place, instead)
        if self._made_elsewhere() and not engine.is_remote(self.pangu):
            engine.require_same_tokens(current.generation, self.pangu)
            begun = [step if isinstance(step, int) else step.token_id for step in begun]
        self._error = ""
        self._take_turn()
        asked, thinking = messages.asked(current.generation)
        self._begin(lambda: self._generate(asked, thinking, begun, current.id, place))

    def show(self, branch: int) -> None:
        """Put a branch on screen, by its id, and with it what was asked."""
        self._require_idle()
        left = self.branches.current
        self.branches.go(branch)
        self._return(left)

    def rename(self, branch: int, name: str) -> None:
        """Give a branch another name; GenerationError for an empty one."""
        self._require_idle()
        self._change(self.branches.rename, branch, name)

    def remove(self, branch: int) -> None:
        """Take a branch and all that leave it out of the tree."""
        self._require_idle()
        self._change(self.branches.remove, branch)

    def undo(self) -> None:
        """Take back the last change to the branches; the history marks what leaves the tree so."""
        self._require_idle()
        self._change(self.branches.undo, undone=True)

    def redo(self) -> None:
        """Do again what was undone."""
        self._require_idle()
        self._change(self.branches.redo)

    def follow_up(self) -> None:
        """Make the answer on screen a part of what was asked for it, to go on from there.

        A conversation gets the answer as a turn; a next question that stands in `prompt` already
        stays there. Raw text gets all tokens of the answer, special ones by name.

        Raises
        ------
        GenerationError
            If there is no answer, or only thinking; if it was asked with token ids.
        """
        generation = self.generation
        if generation is None:
            raise GenerationError("there is no answer to continue from; generate one first.")
        asked = messages.asked_settings(generation.recipe)
        if not asked:
            raise GenerationError(messages.ASKED_WITH_IDS)
        if asked["mode"] == "raw":
            asked["text"] += engine.written(generation, self.pangu)
        else:
            question = asked["prompt"]
            said = [{"role": "user", "content": question}] if question.strip() else []
            whole = generation.answer.removesuffix("\ufffd" if generation.tail else "")
            if not whole and any(step.span == "thinking" for step in generation.steps):
                raise GenerationError(messages.only_thinking(generation))
            answer = {"role": "assistant", "content": whole}
            asked["turns"] = [*asked["turns"], *said, answer]
            asked["prompt"] = "" if self.prompt == question else self.prompt
        self._put(asked)
        self._calm()

    def restore(self, entry_id: str) -> None:
        """Bring prompt, settings and text of a generation of the history back on screen.

        The whole tree that it is in comes back, as far as it is not there and was not removed;
        `undo` takes it away. A prompt that was never named is called by its time.

        Raises
        ------
        WorkbenchError
            If there is no such entry, or it lacks what it takes.
        """
        self._require_idle()
        if self.history is None:
            raise GenerationError("this playground keeps no history.")
        recipe = self.history[entry_id].generation().recipe
        settings = messages.settings_of(recipe)
        settings |= as_taken(self.pangu, recipe.sampling).as_dict()
        left = self.branches.current
        unasked, there = self._keep_draft(left), self._kept.ids()
        with self.branches.one_change():
            self.branches.go(self._kept.bring_back(entry_id))
        self._put(settings)
        self._show_current()
        self._tell_history(there)
        if unasked:
            self._tell_draft(left)
        self._tell_untaken(recipe.sampling)

    def wait(self, timeout: float | None = None) -> Generation | None:
        """Wait for the generation that is running and return it; an interrupt stops it.

        None after an error, which is on screen.
        """
        super().wait(timeout)
        return None if self._error else self.generation

    def close(self) -> None:
        """Stop, wait for the end, close what is open inside, and give back what was held."""
        super().close()
        for inside in (self.inside, self._comparison, *self._loading.values()):
            if inside is not None:
                inside.close()

    def table(self) -> pd.DataFrame:
        """One row per token on screen: what came, how probable it was, what else could have come."""
        steps = self.generation.steps if self.generation else ()
        best = [step.alternatives[0] if step.alternatives else None for step in steps]
        return pd.DataFrame(
            {
                "piece": [step.piece for step in steps],
                "span": [step.span for step in steps],
                "logprob": [step.logprob for step in steps],
                "entropy_bits": [step.entropy_bits for step in steps],
                "best": [other and other.piece for other in best],
                "best_logprob": [other and other.logprob for other in best],
            }
        )

    def figure(self) -> Figure:
        """Prompt and generated text for print."""
        figure = PrintFigure(figsize=(8, 2.5))
        text = self.generation.text if self.generation else ""
        asked = self.text if self.mode == "raw" else self.prompt
        shown = for_print(f"{titled(self.pangu.name)}\n\n{asked}\n\n{text}", 110)
        figure.text(0.01, 0.98, shown, va="top", fontsize=9)
        return figure

    # -- what the page asks ---------------------------------------------------------------------

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """Act on what was clicked; a page that is new gets all there is to show."""
        kind = question.get("kind")
        if kind == "want":
            return self._state(), []
        if self._settled(question):
            return None
        if kind == "loaded":
            self._loaded(question["inside"])
            return None
        if self.running and kind not in MEANWHILE:  # a click that comes too late: nothing to do
            return None
        try:
            return self._act(kind, question)
        except WorkbenchError as error:
            return {"kind": "note", "text": str(error), "bad": True}, []

    def _act(self, kind: str | None, question: Mapping[str, Any]) -> Answer | None:
        if kind == "generate":
            self.start()
        elif kind == "branch":
            self.branch(int(question["place"]), question.get("token", question.get("text")))
        elif kind == "show":
            self.show(int(question["node"]))
        elif kind == "rename":
            self.rename(int(question["node"]), question["name"])
        elif kind == "remove":
            self.remove(int(question["node"]))
        elif kind == "undo":
            self.undo()
        elif kind == "redo":
            self.redo()
        elif kind == "follow_up":
            self.follow_up()
        elif kind == "bias":
            self._add_bias(question["text"], float(question["value"]))
            self._calm()
            return {"kind": "done", "asked": kind, "text": question["text"]}, []
        elif kind == "save_preset":
            self.save_preset(question["name"])
            return {"kind": "done", "asked": kind, "text": question["name"]}, []
        elif kind == "python":
            code = (
                self.generation.to_python()
                if self.generation
                else "# Nothing has been generated yet."
            )
            note = "It checks the weights, generates the same text, and says so if it differs."
            return {"kind": "python", "code": code, "note": note}, []
        elif kind == "compare":
            self._compare_anew()
        elif kind == "history":
            return messages.history(self.history), []
        elif kind == "restore":
            self.restore(question["entry"])
        elif kind == "export" and self.history is not None:
            exported = messages.exported(self.history, question["format"])
            self._calm()
            return exported, []
        return None

    def _ended(self) -> None:
        if self.panel in INSIDE and self.inside is None:  # there is nothing to show
            self.panel = ""
        self.send({"kind": "tree", **self._tree()})

    def _release(self) -> None:
        if self._prefixes is not None:
            self._prefixes.clear()
        self._look_away()
        if not self._pages:
            for inside in list(self._loading):
                self._loaded(inside)
        if self.panel in INSIDE:
            self.panel = ""

    def _take_turn(self) -> None:
        """Let a stream that this thread left unfinished wait; of a cell's, `cell_ended` sees to it."""
        self._require_idle()
        ask_turn(self.pangu)
