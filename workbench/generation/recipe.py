"""Everything that it takes to generate the same text again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling


@dataclass(frozen=True)
class Recipe:
    """Everything that it takes to generate the same text again, on the same machine.

    Attributes
    ----------
    checkpoint : str
        What the checkpoint was called when it was loaded.
    fingerprint : str
        Of its files; see `workbench.checkpoints.fingerprint.fingerprint`.
    bits, quant_type, device
        How it was loaded. Of a model on a server `device` is the server's address and `bits` 0: it
        does not tell them.
    prompt : str, tuple of int, or tuple of dict
        As it was given: a text, token ids, or messages.
    prompt_ids : tuple of int
        What the model read.
    thinking : str
        "slow", "fast" or "auto", for messages.
    sampling : Sampling
    max_new_tokens : int
    stop_strings : tuple of str
    begun : tuple of int, or of str
        Tokens of the answer that were given and not drawn; of a model on a server their pieces,
        because what an id stands for is known there alone.
    versions : dict of str to str
        workbench, torch, transformers, bitsandbytes, numpy, python, processor, threads.
    connection : dict
        Of a model on a server what `workbench.connect` was given besides, where it is not the
        default: "api_key_env" (the variable's name, never the key), "timeout", "extensions".
    memory : str, int or None
        What `memory=` was when it was loaded; the results do not depend on it.
    """

    checkpoint: str
    fingerprint: str
    bits: int
    quant_type: str
    device: str
    prompt: str | tuple[int, ...] | tuple[dict[str, str], ...]
    prompt_ids: tuple[int, ...]
    thinking: str = "slow"
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 128
    stop_strings: tuple[str, ...] = ()
    begun: tuple[int | str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    connection: Mapping[str, Any] = field(default_factory=dict)
    memory: str | int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        prompt = self.prompt if isinstance(self.prompt, str) else list(self.prompt)
        return {
            **vars(self),
            "prompt": prompt,
            "prompt_ids": list(self.prompt_ids),
            "sampling": self.sampling.as_dict(),
            "stop_strings": list(self.stop_strings),
            "begun": list(self.begun),
            "versions": dict(self.versions),
            "connection": dict(self.connection),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe that `as_dict` was called on.

        Raises
        ------
        GenerationError
            If the values are no recipe.
        """
        try:
            prompt = values["prompt"]
            return cls(
                **{
                    **values,
                    "prompt": prompt if isinstance(prompt, str) else tuple(prompt),
                    "prompt_ids": tuple(values["prompt_ids"]),
                    "sampling": Sampling(**values["sampling"]),
                    "stop_strings": tuple(values["stop_strings"]),
                    "begun": tuple(values["begun"]),
                    "versions": dict(values["versions"]),
                    "connection": dict(values.get("connection", {})),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise GenerationError(
                f"this is not a recipe ({error!r}); expected what Recipe.as_dict returns."
            ) from error

    def to_python(self, text: str | None = None) -> str:
        """A cell that generates the same again.

        Parameters
        ----------
        text
            What came out. If given, the cell compares, and says so if it is not the same.
        """
        prompt = self.prompt if isinstance(self.prompt, str) else list(self.prompt)
        arguments = [f"prompt={prompt!r}", f"max_new_tokens={self.max_new_tokens}"]
        arguments.append(f"sampling=wb.{self.sampling!r}")
        if self.thinking != "slow":
            arguments.append(f"thinking={self.thinking!r}")
        if self.stop_strings:
            arguments.append(f"stop_strings={self.stop_strings!r}")
        if self.begun:
            arguments.append(f"begun={list(self.begun)!r}")
        lines = [
            "import workbench as wb",
            "",
            *self._opening(),
            "generation = pangu.generate(",
            *(f"    {argument}," for argument in arguments),
            ")",
            "print(generation)",
        ]
        if text is not None and self.bits == 0:
            lines += [
                f"if generation.text != {text!r}:",
                "    print('The text differs: a server computes several requests together, which can')",
                "    print('change the last digits of a probability, and with them the token drawn.')",
            ]
        elif text is not None:
            made = ", ".join(f"{name} {value}" for name, value in self.versions.items())
            lines += [
                f"expected = {text!r}",
                "assert generation.text == expected, (",
                f"    {'the text differs; it was made with ' + made!r}",
                ")",
            ]
        return "\n".join(lines) + "\n"

    def _opening(self) -> list[str]:
        """The lines that load the model, or connect to its server."""
        if self.bits == 0:
            options = [repr(self.device), f"model={self.checkpoint!r}"]
            for name in ("api_key_env", "timeout", "extensions"):
                if name in self.connection:
                    options.append(f"{name}={self.connection[name]!r}")
            return [f"pangu = wb.connect({', '.join(options)})"]
        options = [repr(self.checkpoint), f"bits={self.bits}", f"device={self.device!r}"]
        if self.bits == 4 and self.quant_type != "nf4":
            options.append(f"quant_type={self.quant_type!r}")
        if self.memory is not None:
            options.append(f"memory={self.memory!r}")
        return [
            f"pangu = wb.load({', '.join(options)})",
            f"assert pangu.fingerprint == {self.fingerprint!r}, 'these are different weights'",
        ]
