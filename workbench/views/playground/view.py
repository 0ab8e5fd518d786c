"""Prompts in, text out, with the model's choices in view."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anywidget
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.errors import GenerationError, HistoryError, WorkbenchError
from workbench.generation.sampling import Sampling
from workbench.generation.turn import ask_turn
from workbench.prompts.branches import Branch, Branches
from workbench.prompts.history import History
from workbench.prompts.presets import CHECKPOINT, Presets
from workbench.server.capabilities import OFF
from workbench.server.remote import as_taken
from workbench.views.playground import messages
from workbench.views.shared.generating import (
    GeneratingView,
    News,
    layers_told,
    memory_gb,
    reason,
    require_question,
    settle,
    step_message,
)
from workbench.views.shared.printing import PrintFigure, for_print
from workbench.views.shared.widget import Answer, script
from workbench.wording import titled

if TYPE_CHECKING:
    from workbench.generation.prefixes import Prefixes
    from workbench.generation.recipe import Recipe
    from workbench.generation.steps import Generation, Step
    from workbench.generation.stream import Stream
    from workbench.pangu import Pangu
    from workbench.traces.trace import Trace
    from workbench.views.comparison.view import ComparisonView

SAMPLING = ("temperature", "top_p", "top_k", "seed", "min_p", "repetition_penalty", "logit_bias")
RECORD_BYTES = 2**29  # of queries and keys, for routing and attention of what is on screen
KEPT = 5  # alternatives of a token in the history, to be seen and chosen after a restart
INSIDE = ("routing", "attention")  # panels that show what happened inside
MEANWHILE = (
    "bias",
    "save_preset",
    "history",
    "export",
    "compare",
)  # what can be done while it generates
CONVERSATION = ("system", "turns", "prompt", "thinking", "mode")


class Playground(GeneratingView):
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
    mode = traitlets.Enum(["chat", "raw"], "chat").tag(sync=True)
    system = traitlets.Unicode("").tag(sync=True)
    turns = traitlets.List(traitlets.Dict()).tag(sync=True)
    prompt = traitlets.Unicode("").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    thinking = traitlets.Enum(["slow", "fast", "auto"], "slow").tag(sync=True)
    preset = traitlets.Unicode("").tag(sync=True)
    temperature = traitlets.Float(0.6).tag(sync=True)
    top_p = traitlets.Float(0.95).tag(sync=True)
    top_k = traitlets.Int(50).tag(sync=True)
    min_p = traitlets.Float(0.0).tag(sync=True)
    repetition_penalty = traitlets.Float(1.0).tag(sync=True)
    logit_bias = traitlets.List().tag(sync=True)
    stop_strings = traitlets.List(traitlets.Unicode()).tag(sync=True)
    max_new_tokens = traitlets.Int(128).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    colour = traitlets.Enum(["none", "probability", "entropy", "surprisal"], "probability").tag(
        sync=True
    )
    folded = traitlets.Bool(False).tag(sync=True)
    token = traitlets.Int(-1).tag(sync=True)
    panel = traitlets.Enum(
        ["", "routing", "attention", "compare", "python", "history"], ""
    ).tag(sync=True)  # fmt: skip
    inside = anywidget.WidgetTrait().tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)

    _prefixes: Prefixes | None = None
    _comparison: ComparisonView | None = None

    def __init__(
        self,
        pangu: Pangu,
        prompt: str = "",
        history: History | str | None = "pangu-history.jsonl",
        **settings: Any,
    ) -> None:
        self.pangu = pangu
        self.branches = Branches()
        self.history = History(history, KEPT) if isinstance(history, str) else history
        self.trace: Trace | None = None  # of the branch that is shown, once it was looked into
        self.presets = Presets(pangu)
        self._stream: Stream | None = None  # of what is on screen, with what was recorded
        self._loading: dict[str, GeneratingView] = {}  # inside, by id, that no page has loaded yet
        self._presetting = False  # settings follow a preset just now
        self._shown: list[dict[str, Any]] = []  # the steps on screen
        self._status: dict[str, Any] = {}
        self._statuses: dict[int, dict[str, Any]] = {}  # by branch
        self._entries: dict[int, str] = {}  # by branch: its id in the history
        self._names: dict[str, str] = {}  # by id in the history: what the branch is called there
        self._removed: set[str] = set()  # ids in the history of what was taken out of its tree
        self._restored: set[int] = set()  # branches that stay in the history's tree after an undo
        self._templating: int | None = None  # the thread in which `text` follows the conversation
        self._rendered = ""  # the conversation through the template
        self._raw: str | None = ""  # typed and not asked when a conversation took its place
        self._drafts: dict[int | None, dict[str, Any]] = {}  # by branch: typed and not asked
        if isinstance(settings.get("logit_bias"), Mapping):
            settings["logit_bias"] = list(settings["logit_bias"].items())
        if "text" in settings:
            settings = {"mode": "raw", **settings}
        if settings.get("preset"):
            settings = {**self._preset_settings(settings["preset"]), **settings}
        usual = as_taken(pangu, Sampling()).as_dict()
        super().__init__(prompt=prompt, **{"top_k": usual["top_k"], **settings})
        self.observe(self._template, list(CONVERSATION))
        self.observe(self._follow_text, "text")
        self.observe(self._tell_bias, "logit_bias")
        self.observe(self._calm, [*SAMPLING, "max_new_tokens", "stop_strings"])
        self.observe(self._use_preset, "preset")
        self.observe(self._find_preset, [name for name in SAMPLING if name != "seed"])
        self.observe(self._open_panel, "panel")
        self.observe(self._select_inside, "token")
        self._template()
        self._find_preset()

    # -- from Python ----------------------------------------------------------------------------

    @property
    def generation(self) -> Generation | None:
        """The one on screen, finished or stopped; None while one is running."""
        current = self.branches.current
        return None if self.running or current is None else current.generation

    @property
    def recipe(self) -> Recipe | None:
        """All that it takes to generate the text on screen again."""
        return self.generation.recipe if self.generation else None

    @property
    def sampling(self) -> Sampling:
        """The settings on screen.

        Raises
        ------
        GenerationError
            For one that is out of range.
        """
        return Sampling(**{name: getattr(self, name) for name in SAMPLING})

    @property
    def conversation(self) -> list[dict[str, str]]:
        """All turns in order, as `Pangu.generate` takes them."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        asked = [{"role": "user", "content": self.prompt}] if self.prompt.strip() else []
        return [*system, *self.turns, *asked]

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
        if isinstance(instead, str):
            if messages.is_remote(self.pangu):
                raise GenerationError(messages.OWN_TEXT)
            shared, tokenizer = current.generation.begun(place), self.pangu.tokenizer
            after_special = place > 0 and shared[-1].token_id in tokenizer.special_tokens.values()
            given = tokenizer.encode(instead, False, special=True, starts_text=after_special)
            begun = (*shared, *given)
        else:
            begun = current.generation.begun(place, instead)
        if self._made_elsewhere() and not messages.is_remote(self.pangu):
            messages.require_same_tokens(current.generation, self.pangu)
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
            raise GenerationError("there is no answer to go on from; generate one first.")
        asked = messages.asked_settings(generation.recipe)
        if not asked:
            raise GenerationError(messages.ASKED_WITH_IDS)
        if asked["mode"] == "raw":
            asked["text"] += messages.written(generation, self.pangu)
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
        unasked, there = self._keep_draft(left), self._branch_ids()
        with self.branches.one_change():
            self.branches.go(self._bring_back(entry_id))
        self._put(settings)
        self._show_current()
        self._tell_history(there)
        if unasked:
            self._tell_draft(left)
        self._tell_untaken(recipe.sampling)

    def _bring_back(self, entry_id: str) -> int:
        """Put the tree of an entry of the history into the branches; the entry's branch."""
        there = {
            entry: branch for branch, entry in self._entries.items() if branch in self.branches
        }
        for entry in self.history.tree(entry_id):
            if entry.id in there:
                continue
            parent, at, name = there.get(entry.parent), entry.at, entry.name.strip() or None
            if parent is None:
                time = messages.local_time(entry.time)[5:16]
                at, name = 0, name or self._names.get(entry.id, time)
            try:
                branch = self.branches.add(entry.generation(), parent, at, name)
            except WorkbenchError:  # a line that somebody changed
                if entry.id == entry_id:
                    raise
                continue
            there[entry.id] = branch.id
            self._entries[branch.id], self._names[entry.id] = entry.id, branch.name
            if entry.removed:
                self._removed.add(entry.id)
            else:
                self._restored.add(branch.id)
        return there[entry_id]

    def compare(self, columns: Any = None) -> ComparisonView:
        """What is asked under several settings, side by side; by default these and greedy, or
        what is recommended where these are greedy.

        Parameters
        ----------
        columns
            See `ComparisonView`.
        """
        from workbench.views.comparison.view import ComparisonView

        if columns is None:
            now = {name: getattr(self, name) for name in SAMPLING if name != "seed"}
            now["thinking"] = self.thinking
            columns = {"these settings": now, **self._other_settings(now)}
        return ComparisonView(
            self.pangu,
            self.text if self.mode == "raw" else self.conversation,
            columns,
            history=self.history,
            mode=self.mode,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            stop_strings=self.stop_strings,
        )

    def _other_settings(self, now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """To compare these settings with: greedy, or what is recommended where they are greedy."""
        if now["temperature"] > 0:
            return {"greedy": {**now, "temperature": 0.0}}
        recommended = (CHECKPOINT, "Pangu Pro MoE")
        name = next(
            name for name in recommended
            if name in self.presets.built_in() and self.presets[name].sampling.temperature > 0
        )  # fmt: skip
        settings = self._preset_settings(name)
        del settings["logit_bias"]
        return {name: {**now, **settings}}

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
                self.generation.to_python() if self.generation else "# Nothing was generated yet."
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

    def _state(self) -> dict[str, Any]:
        """Everything on screen."""
        pangu = self.pangu
        return {
            "kind": "state",
            "title": f"Playground: {titled(pangu.name)}",
            "about": messages.about(pangu),
            "missing": messages.missing(pangu, self.history),
            "usual": as_taken(pangu, Sampling()).as_dict(),
            **self._read(),
            "context": messages.context(pangu),
            "bias": self._bias(),
            "steps": list(self._shown),
            **self._tree(),
            **self._preset_names(),
        }

    def _tree(self) -> dict[str, Any]:
        """Branches, and how the one on screen ended."""
        return {
            "nodes": messages.nodes(self.branches),
            "current": self.branches.current.id if self.branches.current else None,
            "undo": self.branches.can_undo,
            "redo": self.branches.can_redo,
            "status": self._status,
            "error": self._error,
            "made": self._made(),
        }

    def _made(self) -> str:
        """In what the text on screen was made otherwise than a text would be now."""
        current = self.branches.current
        if current is None or self.running:
            return ""
        now = {name: getattr(self, name) for name in (*SAMPLING, "max_new_tokens", "stop_strings")}
        others = messages.other_settings(current.recipe, now)
        return " ".join(part for part in (self._made_elsewhere(), others) if part)

    def _made_elsewhere(self) -> str:
        current = self.branches.current
        return "" if current is None else messages.made_elsewhere(current.recipe, self.pangu)

    # -- generating -----------------------------------------------------------------------------

    def _generate(
        self,
        asked: Any,
        thinking: str,
        begun: Sequence[Step | int] = (),
        parent: int | None = None,
        at: int = 0,
    ) -> None:
        """In the thread: stream a generation to the page and put it into tree and history."""
        current = None if parent is None else self.branches.current
        read = self._count() if current is None else current.generation.prompt_length
        settings = self._recorded(read, len(begun))
        stream = self.pangu.stream(
            asked,
            self.max_new_tokens,
            self.sampling,
            thinking=thinking,
            stop=self._stop,
            stop_strings=tuple(self.stop_strings),
            begun=begun,
            prefixes=self._caches(),
            **settings,
        )
        seen = (self.trace, self._stream, self.token)  # comes back if no new token comes
        self._look_away()
        if self.panel in INSIDE and not settings.get("record"):
            self.panel = ""  # unless it is clicked again meanwhile
        read_anew = any(isinstance(step, int) for step in begun[:at])  # numbers of another model
        self._shown = [] if parent is None or read_anew else self._shown[:at]
        settle(self._shown, stream.generation.steps)  # a stop string that cut them may be gone
        self._status = {"doing": "reading the prompt"}
        self.send(self._state())
        news = News(self._send_steps, len(self._shown))
        try:
            with layers_told(self.pangu, self._tell_layer):
                for step in stream:
                    seen = (None, None, -1)
                    if news.count == 0 and begun:  # what was given comes with the first token
                        self._give(news, stream.generation.steps[len(self._shown) : -1], at)
                    message = step_message(step)
                    self._shown.append(message)
                    news.add(message, lambda: self._progress(news, stream))
        finally:  # after an error too: what came stays
            generation = stream.generation
            if len(self._shown) < len(generation.steps):
                self._give(news, generation.steps[len(self._shown) :], at)
            self._status = {
                **self._progress(news, stream),
                "seconds": news.seconds,
                "reason": reason(generation),
                "finish": generation.finish_reason,
                "tail": generation.tail,
            }
            news.flush(self._status)
            first = settle(self._shown, generation.steps)
            if first < len(self._shown):
                self._send_steps(first, self._shown[first:], self._status)
            kept = bool(generation.steps) and len(generation.steps) >= at
            if kept:
                self._keep(generation, parent, at, news.seconds)
            elif self.branches.current is not None:  # ended before a token of its own
                self._show_current()
                self.trace, self._stream, self.token = seen
        if kept and settings.get("record"):
            self._stream = stream
        recorded = self._stream is not None or self.trace is not None
        if self.panel in INSIDE and (recorded or not self._stop.is_set()):
            self._look_inside()  # it was clicked meanwhile, or is still open

    def _answer(self) -> None:
        asked = self._asked()
        require_question(asked)
        self._generate(asked, self.thinking)

    def _tell_layer(self, doing: str) -> None:
        if doing:
            self.send({"kind": "status", "status": {**self._status, "doing": doing}})

    def _give(self, news: News, steps: Sequence[Step], at: int) -> None:
        """Show tokens that were not drawn; those from `at` on were chosen."""
        first = len(self._shown)
        given = [step_message(step, place >= at) for place, step in enumerate(steps, first)]
        self._shown += given
        news.give(given)

    def _keep(self, generation: Generation, parent: int | None, at: int, seconds: float) -> None:
        """Into the tree, the history, and as the end to the page."""
        branch = self.branches.add(generation, parent, at)
        self._statuses[branch.id] = self._status
        if self.history is not None:
            left = self._entries.get(parent, "")
            entry = self.history.add(generation, seconds=seconds, parent=left, at=at if left else 0)
            self._entries[branch.id], self._names[entry.id] = entry.id, branch.name

    def _asked(self) -> str | list[dict[str, str]]:
        if self.mode == "raw":
            if not self.text:
                raise GenerationError("the text is empty; type something first.")
            return self.text
        if not self.conversation:
            raise GenerationError("the prompt is empty; type something first.")
        return self.conversation

    def _caches(self) -> Any:
        """Key-value caches of earlier branches; None for a server, which keeps its own."""
        if self._prefixes is None and not messages.is_remote(self.pangu):
            from workbench.generation.prefixes import Prefixes

            self._prefixes = Prefixes(self.pangu)
        return self._prefixes

    def _recorded(self, prompt: int | None, begun: int) -> dict[str, Any]:
        """Record while it generates, where that takes little memory; else the text is read again."""
        if messages.is_remote(self.pangu):
            return {}
        tokens = prompt + begun + self.max_new_tokens
        return {"record": tokens * _recorded_bytes(self.pangu.config) <= RECORD_BYTES}

    def _progress(self, news: News, stream: Any) -> dict[str, Any]:
        return {
            "tokens": news.count,
            "speed": news.speed,
            "used": len(stream.generation.token_ids),
            "memory_gb": None if messages.is_remote(self.pangu) else memory_gb(self.pangu.device),
        }

    def _send_steps(self, start: int, steps: list[Any], status: dict[str, Any]) -> None:
        self._status = status
        self.send({"kind": "steps", "from": start, "steps": steps, "status": status})

    def _calm(self, _change: Any = None) -> None:
        """Something else was done since: what went wrong before need not be said any longer."""
        self._error = ""
        self.send({"kind": "note", "text": self._made_elsewhere(), "bad": False})

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

    # -- what is on screen ----------------------------------------------------------------------

    def _preset_names(self) -> dict[str, Any]:
        """The presets; only those built in where the user's file is damaged, and why."""
        try:
            return {"presets": self.presets.names()}
        except WorkbenchError as error:
            return {"presets": self.presets.built_in(), "error": self._error or str(error)}

    def _change(self, change: Callable[..., Any], *arguments: Any, undone: bool = False) -> None:
        """Change the branches; what is on screen and open stays so if it is still the current one."""
        before, there = self.branches.current, self._branch_ids()
        change(*arguments)
        now = self.branches.current
        stays = before is not None and now is not None and before.generation is now.generation
        if stays:
            self._error = ""
        else:
            self._return(before)
        told = self._tell_history(there, undone)
        if stays and told:
            self.send({"kind": "tree", **self._tree()})

    def _branch_ids(self) -> set[int]:
        return {branch.id for branch in self.branches}

    def _tell_history(self, before: set[int], undone: bool = False) -> bool:
        """Write what branches are called now, and which left the tree or are back; whether that went well.

        An undo that takes a restored tree off the screen leaves it in the history as it was.
        """
        now = self._branch_ids()
        left = before - now - (self._restored if undone else set())
        try:
            for branch in [*left, *(now - before)]:
                entry, removed = self._entries.get(branch), branch in left
                if entry is not None and removed != (entry in self._removed):
                    self.history.remove(entry, removed)
                    self._removed ^= {entry}
            for branch in self.branches:
                entry = self._entries.get(branch.id, "")
                if branch.name != self._names.get(entry, branch.name):
                    self.history.rename(entry, branch.name)
                    self._names[entry] = branch.name
        except HistoryError as error:
            self._error = f"The branches are as you see them; the history is not: {error}"
            self.send({"kind": "tree", **self._tree()})
            return False
        return True

    def _keep_draft(self, left: Branch | None) -> bool:
        """Remember what is typed and was not asked for the branch that is left; whether there is any."""
        asked, thinking = messages.asked(left.generation) if left else ([], self.thinking)
        if self.mode == "chat":
            names = ("thinking", "system", "turns", "prompt")
            unasked = (self.conversation, self.thinking) != (asked, thinking)
        else:
            names = ("text",)
            unasked = self.text != (asked or "")
        if unasked:
            draft = {"mode": self.mode, **{name: getattr(self, name) for name in names}}
            self._drafts[left.id if left else None] = draft
        return unasked

    def _tell_draft(self, left: Branch | None) -> None:
        """Say how to get what was typed back."""
        if left is not None:
            there = left.id in self.branches
            kept = (
                f"with a click on “{left.name}”" if there else f"when “{left.name}” is there again"
            )
            text = f"What was typed and not asked comes back {kept}. {self._made()}".strip()
            self.send({"kind": "note", "text": text, "bad": False})

    def _return(self, left: Branch | None) -> None:
        """Show the current branch, and with it what was typed there and not asked, or what was asked.

        The branch that is on screen already changes between the two.
        """
        unasked, now = self._keep_draft(left), self.branches.current
        settings = messages.asked_settings(now.recipe) if now else {}
        if not unasked or left is not now:
            settings = self._drafts.pop(now.id if now else None, settings)
        changed = any(getattr(self, name) != value for name, value in settings.items())
        self._put(settings)
        self._show_current()
        if unasked and changed:
            self._tell_draft(left)

    def _show_current(self) -> None:
        self._look_away()
        self._error = ""
        current = self.branches.current
        self._shown, self._status = [], {}
        if current is not None:
            steps = current.generation.steps
            leaves = current.parent is not None and current.recipe is not None
            given = range(current.at, len(current.recipe.begun)) if leaves else ()
            self._shown = [step_message(step, place in given) for place, step in enumerate(steps)]
            self._status = self._statuses.get(
                current.id,
                {
                    "tokens": messages.new_tokens(current.generation),
                    "used": len(current.generation.token_ids),
                    "reason": reason(current.generation),
                    "finish": current.generation.finish_reason,
                    "tail": current.generation.tail,
                },
            )
        self.send(self._state())
        if self.panel in INSIDE and not self.running:
            self._follow()

    def _follow(self) -> None:
        """Show in the open panel what happened in the text on screen, if reading it is a moment's work."""
        current, pangu = self.branches.current, self.pangu
        if messages.is_remote(pangu):
            self.panel = ""
            return
        tokens = 0 if current is None else len(current.generation.token_ids)
        quick = (pangu.is_small or pangu.device.type == "cuda") and pangu.streaming is None
        if not quick or not 0 < tokens * _recorded_bytes(pangu.config) <= RECORD_BYTES:
            self.panel = ""
        else:
            self._stop.clear()
            try:
                ask_turn(self.pangu)
                self._look_inside()
            except WorkbenchError as error:
                self._error, self.panel = str(error), ""
                self.send({"kind": "tree", **self._tree()})

    def _template(self, change: Mapping[str, Any] | None = None) -> None:
        """Let `text` follow the conversation, through the model's own template.

        Raw text that was typed and not asked comes back with the raw mode.
        """
        turned = change is not None and change["name"] == "mode"
        if self.mode == "chat" and not messages.is_remote(self.pangu):
            if turned and self._raw is not None:
                current = self.branches.current
                asked = current.recipe.prompt if current and current.recipe else None
                if self.text not in (self._rendered, asked):
                    self._raw = self.text
            turns = self.conversation
            self._rendered = (
                self.pangu.tokenizer.render_chat(turns, thinking=self.thinking) if turns else ""
            )
            self._templating = threading.get_ident()
            self.text = self._rendered
            self._templating = None
        elif turned and self._raw and self.text == self._rendered:
            self.text, self._raw = self._raw, ""
        self.send({"kind": "count", **self._read()})

    def _put(self, values: Mapping[str, Any]) -> None:
        """Set traits together; raw text that waits is not changed by it."""
        waiting, self._raw = self._raw, None
        try:
            with self.hold_trait_notifications():
                for name, value in values.items():
                    setattr(self, name, value)
        finally:
            self._raw = waiting

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what a page tells; the mode last, where a busy kernel got several clicks as one."""
        mode = {name: value for name, value in sync_data.items() if name == "mode"}
        super().set_state({name: value for name, value in sync_data.items() if name != "mode"})
        if mode:
            super().set_state(mode)

    def _follow_text(self, _change: Any) -> None:
        if self._templating != threading.get_ident():  # somebody wrote it, beside a click perhaps
            self.mode = "raw"
            self.send({"kind": "count", **self._read()})

    def _read(self) -> dict[str, Any]:
        """What is said of the text that the model reads."""
        return {
            "count": self._count(),
            "special": messages.special_names(self.pangu, self.conversation),
        }

    def _count(self) -> int | None:
        """Tokens that the model will read; None if that cannot be said."""
        if messages.is_remote(self.pangu):
            return None
        try:
            asked = self._asked()
            return len(self.pangu.encode(asked, self.thinking))
        except WorkbenchError:  # said when it is generated; there is nothing to count
            return 0

    # -- settings -------------------------------------------------------------------------------

    def _bias(self) -> list[list[Any]]:
        ids = [int(token) for token, _ in self.logit_bias]
        if messages.is_remote(self.pangu):
            pieces = [None] * len(ids)
        else:
            pieces = self.pangu.tokenizer.pieces(ids)
        return [
            [token, piece, value]
            for token, piece, (_, value) in zip(ids, pieces, self.logit_bias, strict=True)
        ]

    def _tell_bias(self, _change: Any) -> None:
        self.send({"kind": "bias", "bias": self._bias()})

    def _add_bias(self, text: str, value: float) -> None:
        ids = messages.tokens_of(self.pangu, text)
        if len(ids) != 1:
            pieces = self.pangu.tokenizer.pieces(ids)
            listed = ", ".join(f"{i} {piece!r}" for i, piece in zip(ids, pieces, strict=True))
            raise GenerationError(
                f"{text!r} is {len(ids)} tokens ({listed}); a bias is for one: give its id."
            )
        others = [pair for pair in self.logit_bias if pair[0] != ids[0]]
        self.logit_bias = [*others, [ids[0], value]]

    def save_preset(self, name: str) -> None:
        """Keep the settings on screen under a name, in a file in the notebook's folder."""
        self.presets.save(name, self.sampling)
        self.send({"kind": "presets", "presets": self.presets.names()})
        self.preset = name
        self._calm()

    def _use_preset(self, _change: Any) -> None:
        chosen = "" if self._presetting else self.preset
        try:
            if chosen:
                settings = self._preset_settings(chosen)
                self._presetting = True
                self._put(settings)
        finally:
            self._presetting = False
            self._find_preset()
        if chosen:
            self._tell_untaken(self.presets[chosen].sampling)

    def _tell_untaken(self, sampling: Sampling) -> None:
        """Say which settings are off because the server does not take them."""
        taken = as_taken(self.pangu, sampling)
        off = [name for name in OFF if getattr(taken, name) != getattr(sampling, name)]
        if off:
            text = f"This server does not take {' and '.join(off)}: off here."
            self.send({"kind": "note", "text": text, "bad": False})

    def _preset_settings(self, name: str) -> dict[str, Any]:
        """All but the seed: a preset says how to draw, not with which numbers."""
        settings = as_taken(self.pangu, self.presets[name].sampling).as_dict()
        del settings["seed"]
        return settings

    def _find_preset(self, _change: Any = None) -> None:
        """Name the preset of the settings on screen."""
        if self._presetting:
            return
        try:
            presets = {preset.name: preset for preset in self.presets}
        except WorkbenchError:  # the page says so; those that are built in are there
            presets = {name: self.presets[name] for name in self.presets.built_in()}
        try:
            now = self.sampling
        except GenerationError:  # said when it is generated
            self.preset = ""
            return
        same = [
            name
            for name, preset in presets.items()
            if replace(as_taken(self.pangu, preset.sampling), seed=self.seed) == now
        ]
        self.preset = self.preset if self.preset in same else next(iter(same), "")

    # -- inside ---------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        """Let a stream that this thread left unfinished wait; of a cell's, `cell_ended` sees to it."""
        self._require_idle()
        ask_turn(self.pangu)

    def _open_panel(self, _change: Any) -> None:
        """Make the widget that the panel shows; routing and attention read the text once."""
        if self.inside is not None and self.inside is self._comparison:
            if self.inside.running:  # it keeps its texts, and the model is free
                self.inside.stop()
                self.inside.wait()
                self.inside._fail("It was stopped when its panel was left.")
            self.inside = None
        else:
            self._leave_inside()
        if self.panel:
            self._error = ""
            self.send({"kind": "note", "text": self._made(), "bad": False})
        if self.panel in INSIDE and messages.is_remote(self.pangu):
            self._error, self.panel = self.pangu.missing(self.panel), ""
            self.send({"kind": "tree", **self._tree()})
        elif self.panel == "compare":
            self._comparison = self._comparison or self.compare()  # with its texts, if it was open
            self.inside = self._comparison
        elif self.panel in INSIDE and self.generation is not None:
            if self.trace is not None:
                self._look_inside()
            elif not self.running:
                self._status = {**self._status, "doing": "reading the text once more"}
                self.send({"kind": "status", "status": self._status})
                self._begin(self._look_inside)

    def _compare_anew(self) -> None:
        """Begin the comparison in the panel again, with what is asked now."""
        if self._comparison is not None:
            self._comparison.close()
            self.inside = None if self.inside is self._comparison else self.inside
        self._comparison = None
        self._open_panel(None)

    def _look_inside(self) -> None:
        """Routing or attention of the generation on screen, at the selected token."""
        generation = self.branches.current.generation
        try:
            if self.trace is None:
                from workbench.tracing.capture import trace_generation

                if self._made_elsewhere():
                    messages.require_same_tokens(generation, self.pangu)
                stream, self._stream = self._stream, None
                if stream is not None:
                    self.trace = stream.trace()
                else:
                    with layers_told(self.pangu, self._tell_layer):
                        self.trace = trace_generation(self.pangu, generation, self._stop)
        finally:
            self._status.pop("doing", None)
        place = generation.prompt_length + max(self.token, 0)
        if self.panel == "routing":
            from workbench.views.routing.view import RoutingView

            inside = RoutingView(self.trace, token=place if self.token >= 0 else -1)
        elif self.panel != "attention":  # another one was opened meanwhile
            return
        else:
            from workbench.views.attention.view import AttentionView

            inside = AttentionView(self.trace, token=place)
        inside.observe(self._select_outside, "token")
        self._loading[inside.model_id] = inside
        self.inside = inside

    def _leave_inside(self) -> None:
        """Close what is inside; where a page is still loading it, which closing would break, after that."""
        left, self.inside = self.inside, None
        if left is not None and not (self._pages and left.model_id in self._loading):
            self._loading.pop(left.model_id, None)
            left.close()

    def _loaded(self, model_id: str) -> None:
        """A page has loaded a widget, or there is none any longer; what was left meanwhile is closed."""
        inside = self._loading.pop(model_id, None)
        if inside is not None and inside is not self.inside:
            inside.close()

    def _select_outside(self, change: Any) -> None:
        """The token that was clicked inside is selected outside, if it is of the answer."""
        place = change["new"] - self.branches.current.generation.prompt_length
        if 0 <= place < len(self._shown):
            self.token = place

    def _select_inside(self, _change: Any) -> None:
        if self.token >= 0 and self.panel in INSIDE and self.inside is not None:
            self.inside.token = self.branches.current.generation.prompt_length + self.token

    def _look_away(self) -> None:
        """Drop recording, trace and widget of what was on screen; their panel waits for the next."""
        self.trace = self._stream = None
        self.token = -1
        if self.panel in INSIDE:
            self._leave_inside()


def _recorded_bytes(config: Any) -> int:
    """What queries and keys of one token take, at most."""
    heads = config.num_attention_heads + config.num_key_value_heads
    return 4 * config.num_hidden_layers * heads * config.head_dim
