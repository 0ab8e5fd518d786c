"""What is on screen: what is asked, with which settings, and the answer as the page is told of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import traitlets

from workbench.errors import GenerationError, WorkbenchError
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation
from workbench.prompts.branches import Branches
from workbench.prompts.history import History
from workbench.prompts.models import Model
from workbench.prompts.presets import Presets
from workbench.server.capabilities import OFF
from workbench.server.remote import as_taken
from workbench.views.playground import engine, messages
from workbench.views.shared.generating import GeneratingView
from workbench.wording import titled

SAMPLING = ("temperature", "top_p", "top_k", "seed", "min_p", "repetition_penalty", "logit_bias")
CONVERSATION = ("system", "turns", "prompt", "thinking", "mode")


class PlaygroundState(GeneratingView):
    """What is on screen; see `Playground` for the traits.

    In chat mode `text` follows the conversation through the model's own template, and writing it
    changes to raw mode. The name of the preset follows the settings, and the settings the preset.
    """

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

    def __init__(
        self, pangu: Model, prompt: str, history: History | None, settings: Mapping[str, Any]
    ) -> None:
        self.pangu, self.history = pangu, history
        self.branches = Branches()
        self._shown: list[dict[str, Any]] = []  # the steps on screen
        self._status: dict[str, Any] = {}  # of the answer on screen: how fast, how it ended
        self.presets = Presets(pangu)
        self._presetting = False  # settings follow a preset just now
        self._templating: int | None = None  # the thread in which `text` follows the conversation
        self._rendered = ""  # the conversation through the template
        self._raw: str | None = ""  # typed and not asked when a conversation took its place
        settings = dict(settings)
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
        self._template()
        self._find_preset()

    @property
    def generation(self) -> Generation | None:
        """The one on screen, finished or stopped; None while one is running."""
        current = self.branches.current
        return None if self.running or current is None else current.generation

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

    def _asked(self) -> str | list[dict[str, str]]:
        if self.mode == "raw":
            if not self.text:
                raise GenerationError("the text is empty; type something first.")
            return self.text
        if not self.conversation:
            raise GenerationError("the prompt is empty; type something first.")
        return self.conversation

    def _template(self, change: Mapping[str, Any] | None = None) -> None:
        """Let `text` follow the conversation, through the model's own template.

        Raw text that was typed and not asked comes back with the raw mode.
        """
        turned = change is not None and change["name"] == "mode"
        if self.mode == "chat" and not engine.is_remote(self.pangu):
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

    def _follow_text(self, _change: Any) -> None:
        if self._templating != threading.get_ident():  # somebody wrote it, beside a click perhaps
            self.mode = "raw"
            self.send({"kind": "count", **self._read()})

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what a page tells; the mode last, where a busy kernel got several clicks as one."""
        mode = {name: value for name, value in sync_data.items() if name == "mode"}
        super().set_state({name: value for name, value in sync_data.items() if name != "mode"})
        if mode:
            super().set_state(mode)

    def _put(self, values: Mapping[str, Any]) -> None:
        """Set traits together; raw text that waits is not changed by it."""
        waiting, self._raw = self._raw, None
        try:
            with self.hold_trait_notifications():
                for name, value in values.items():
                    setattr(self, name, value)
        finally:
            self._raw = waiting

    def _read(self) -> dict[str, Any]:
        """What is said of the text that the model reads."""
        return {
            "count": self._count(),
            "special": engine.special_names(self.pangu, self.conversation),
        }

    def _count(self) -> int | None:
        """Tokens that the model will read; None if that cannot be said."""
        try:
            asked = self._asked()
        except WorkbenchError:  # said when it is generated
            asked = ""
        return engine.count(self.pangu, asked, self.thinking)

    def _preset_names(self) -> dict[str, Any]:
        """The presets; only those built in where the user's file is damaged, and why."""
        try:
            return {"presets": self.presets.names()}
        except WorkbenchError as error:
            return {"presets": self.presets.built_in(), "error": self._error or str(error)}

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
            text = f"This server does not support {' and '.join(off)}: off."
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

    def _bias(self) -> list[list[Any]]:
        ids = [int(token) for token, _ in self.logit_bias]
        pieces = engine.pieces(self.pangu, ids)
        return [
            [token, piece, value]
            for token, piece, (_, value) in zip(ids, pieces, self.logit_bias, strict=True)
        ]

    def _tell_bias(self, _change: Any) -> None:
        self.send({"kind": "bias", "bias": self._bias()})

    def _add_bias(self, text: str, value: float) -> None:
        ids = engine.tokens_of(self.pangu, text)
        if len(ids) != 1:
            pieces = self.pangu.tokenizer.pieces(ids)
            listed = ", ".join(f"{i} {piece!r}" for i, piece in zip(ids, pieces, strict=True))
            raise GenerationError(
                f"{text!r} is {len(ids)} tokens ({listed}); a bias applies to one token: give its id."
            )
        others = [pair for pair in self.logit_bias if pair[0] != ids[0]]
        self.logit_bias = [*others, [ids[0], value]]

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
        return "" if current is None else engine.made_elsewhere(current.recipe, self.pangu)

    def _calm(self, _change: Any = None) -> None:
        """Something else was done since: what went wrong before need not be said any longer."""
        self._error = ""
        self.send({"kind": "note", "text": self._made_elsewhere(), "bad": False})

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

    def _tell_layer(self, doing: str) -> None:
        if doing:
            self.send({"kind": "status", "status": {**self._status, "doing": doing}})

    def _state(self) -> dict[str, Any]:
        """Everything on screen."""
        pangu = self.pangu
        return {
            "kind": "state",
            "title": f"Playground: {titled(pangu.name)}",
            "about": engine.about(pangu),
            "missing": engine.missing(pangu, self.history),
            "usual": as_taken(pangu, Sampling()).as_dict(),
            **self._read(),
            "context": engine.context(pangu),
            "bias": self._bias(),
            "steps": list(self._shown),
            **self._tree(),
            **self._preset_names(),
        }
