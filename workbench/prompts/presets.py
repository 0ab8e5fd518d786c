"""Sampling settings under a name: built in, the checkpoint's own, and yours in the notebook's folder."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import GenerationError, HistoryError
from workbench.generation.sampling import Sampling
from workbench.prompts.models import Model

FORMAT = 1
CHECKPOINT = "the checkpoint's own"
BUILT_IN = {
    "greedy": (Sampling.greedy(), "always the most probable token"),
    "Pangu Pro MoE": (
        Sampling(temperature=0.6, top_p=0.95, top_k=50),
        "recommended for Pangu Pro MoE 72B",
    ),
    "openPangu Embedded": (
        Sampling(temperature=1.0, top_p=0.8, top_k=0),
        "the generation config of openPangu-Embedded 7B",
    ),
    "as trained": (
        Sampling(temperature=1.0, top_p=1.0, top_k=0),
        "the model's own probabilities, unfiltered",
    ),
}


@dataclass(frozen=True)
class Preset:
    """Sampling settings under a name.

    Attributes
    ----------
    name : str
    sampling : Sampling
    origin : str
        "built in", "checkpoint" or "yours".
    about : str
        Where the settings come from, or your own words.
    """

    name: str
    sampling: Sampling
    origin: str
    about: str = ""


class Presets:
    """The presets there are; yours are kept in a file beside the notebook.

    Parameters
    ----------
    pangu
        Adds what its checkpoint's generation_config.json says; a model on a server has none here.
    path
        Read anew whenever it is needed: another notebook may have written to it.

    Raises
    ------
    HistoryError
        When the file is read: if it is damaged. It is then left as it is.
    """

    def __init__(self, pangu: Model | None = None, path: str | Path = "pangu-presets.json") -> None:
        self.path = Path(path)
        self._fixed = {
            name: Preset(name, sampling, "built in", about)
            for name, (sampling, about) in BUILT_IN.items()
        }
        if hasattr(pangu, "checkpoint") and (own := checkpoint_preset(pangu.checkpoint.path)):
            self._fixed[own.name] = own

    def __repr__(self) -> str:
        return f"Presets({', '.join(map(repr, self.names()))})"

    def __iter__(self) -> Iterator[Preset]:
        return iter([*self._fixed.values(), *self._yours().values()])

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> Preset:
        if name in self._fixed:  # there, whatever the file holds
            return self._fixed[name]
        yours = self._yours()
        if name in yours:
            return yours[name]
        raise HistoryError(
            f"there is no preset {name!r}; there are {', '.join(map(repr, self.names()))}."
        )

    def built_in(self) -> list[str]:
        """Names of those that stand in no file of yours."""
        return list(self._fixed)

    def names(self) -> list[str]:
        """Built in, the checkpoint's, yours."""
        return [preset.name for preset in self]

    def table(self) -> pd.DataFrame:
        """One row per preset with all of its settings."""
        return pd.DataFrame(
            [
                {"name": p.name, "origin": p.origin, **vars(p.sampling), "about": p.about}
                for p in self
            ]
        )

    def save(self, name: str, sampling: Sampling, about: str = "") -> Preset:
        """Keep settings under a name; settings of yours under the same name are replaced.

        Raises
        ------
        HistoryError
            For an empty name, the name of a preset that is not yours, or a file that cannot be
            written.
        """
        name = name.strip() if isinstance(name, str) else ""
        if not name:
            raise HistoryError("a preset needs a name.")
        if not isinstance(sampling, Sampling):
            raise HistoryError(f"sampling is {sampling!r}; expected workbench.Sampling(...).")
        if name in self._fixed:
            raise HistoryError(
                f"{name!r} is {self._fixed[name].origin} and cannot be changed; choose another name."
            )
        preset = Preset(name, sampling, "yours", str(about))
        self._write({**self._yours(), name: preset})
        return preset

    def remove(self, name: str) -> None:
        """Forget a preset of yours.

        Raises
        ------
        HistoryError
            If it is not yours or not there.
        """
        if self[name].origin != "yours":
            raise HistoryError(f"{name!r} is {self[name].origin} and cannot be removed.")
        self._write({key: preset for key, preset in self._yours().items() if key != name})

    def _yours(self) -> dict[str, Preset]:
        try:
            content = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise HistoryError(f"{self.path} cannot be read ({error}).") from error
        try:
            values = json.loads(content)
            if values["format"] != FORMAT:
                raise HistoryError(
                    f"{self.path} has format {values['format']!r}; this workbench reads {FORMAT}."
                )
            found = {}
            for name, entry in values["presets"].items():
                sampling = Sampling(**entry["sampling"])
                found[name] = Preset(name, sampling, "yours", str(entry.get("about", "")))
        except (ValueError, KeyError, TypeError, AttributeError, GenerationError) as error:
            raise HistoryError(
                f"{self.path} contains no presets ({type(error).__name__}: {error}); correct it or "
                "move it away. It was left as it is."
            ) from error
        return {name: preset for name, preset in found.items() if name not in self._fixed}

    def _write(self, yours: dict[str, Preset]) -> None:
        """In one step: a crash leaves the old file or the new one."""
        presets = {
            name: {"sampling": preset.sampling.as_dict(), "about": preset.about}
            for name, preset in yours.items()
        }
        content = json.dumps({"format": FORMAT, "presets": presets}, ensure_ascii=False, indent=2)
        folder = self.path.absolute().parent
        try:
            with tempfile.NamedTemporaryFile("wb", dir=folder, delete=False) as file:
                file.write(content.encode("utf-8", errors="backslashreplace") + b"\n")
            os.replace(file.name, self.path)
        except OSError as error:
            raise HistoryError(f"{self.path} cannot be written ({error.strerror}).") from error


def checkpoint_preset(folder: Path) -> Preset | None:
    """What a checkpoint's generation_config.json says, in transformers' reading of it.

    Without do_sample it is greedy. A setting that is left out is transformers' default: temperature
    1, top_p 1, top_k 50. None if there is no such file.

    Raises
    ------
    HistoryError
        If the file is no JSON or holds settings out of range.
    """
    file = Path(folder) / "generation_config.json"
    if not file.is_file():
        return None
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))

        def given(name: str, otherwise: float) -> Any:
            return otherwise if config.get(name) is None else config[name]

        sampling = Sampling(
            temperature=given("temperature", 1.0) if config.get("do_sample") else 0.0,
            top_p=given("top_p", 1.0),
            top_k=given("top_k", 50),
            min_p=given("min_p", 0.0),
            repetition_penalty=given("repetition_penalty", 1.0),
        )
    except (ValueError, AttributeError, GenerationError) as error:
        raise HistoryError(
            f"{file} cannot be used ({error}); correct it or download it again."
        ) from error
    return Preset(CHECKPOINT, sampling, "checkpoint", file.name)
