"""What a prompt matrix is made of, checked: settings by name, and models that may be loaded late."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling
from workbench.prompts.models import Model
from workbench.prompts.presets import Preset, Presets


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise GenerationError(f"{name} is {value!r}; expected one of {', '.join(known)}.")
    return value


def checked_settings(settings: Any) -> dict[str, Sampling]:
    if settings is None or isinstance(settings, Sampling):
        settings = {"default": settings or Sampling()}
    elif isinstance(settings, Sequence) and not isinstance(settings, str):
        presets = Presets()
        chosen = [item if isinstance(item, Preset) else presets[item] for item in settings]
        names = [preset.name for preset in chosen]
        if twice := [name for place, name in enumerate(names) if name in names[:place]]:
            raise GenerationError(f"the setting {twice[0]!r} is given twice; remove one.")
        settings = {preset.name: preset.sampling for preset in chosen}
    if not isinstance(settings, Mapping) or not settings:
        raise GenerationError(
            f"settings is {settings!r}; expected workbench.Sampling(…) by name, or names of presets."
        )
    found: dict[str, Sampling] = {}
    for name, sampling in settings.items():
        if not isinstance(sampling, Sampling):
            raise GenerationError(
                f"the setting {name!r} is {sampling!r}; expected workbench.Sampling(…)."
            )
        for other, same in found.items():
            if same == sampling:
                raise GenerationError(
                    f"the settings {other!r} and {name!r} are the same; remove one."
                )
        found[str(name)] = sampling
    return found


def checked_models(models: Any) -> dict[str, Any]:
    expected = "expected a loaded model, or several by name as {'4 bit': pangu, …}"
    if models is None:
        raise GenerationError(f"there is no model; {expected}.")
    if hasattr(models, "stream"):
        models = {models.name: models}
    if not isinstance(models, Mapping) or not models:
        raise GenerationError(f"models is {models!r}; {expected}.")
    for name, model in models.items():
        if not hasattr(model, "stream") and not callable(model):
            raise GenerationError(
                f"the model {name!r} is {model!r}; expected a loaded model or a function that "
                "loads one."
            )
    return {str(name): model for name, model in models.items()}


@contextmanager
def opened(model: Any) -> Iterator[Model]:
    """The model; one that is given as a function is loaded now and let go afterwards."""
    if not hasattr(model, "stream"):
        gc.collect()  # what the model before left, before this one needs the memory
        model = model()
        if not hasattr(model, "stream"):
            raise GenerationError(f"the function gave {model!r}; expected a loaded model.")
    yield model


def made_by(recipe: Any, model: Any) -> bool:
    """Whether a recipe was made by this model; of one that is not loaded its name is believed."""
    if not hasattr(model, "stream") or not isinstance(recipe, dict):
        return isinstance(recipe, dict)
    if not hasattr(model, "fingerprint"):  # on a server
        return (recipe.get("device"), recipe.get("checkpoint")) == (model.url, model.name)
    made = [recipe.get(name) for name in ("fingerprint", "bits", "quant_type")]
    if model.bits != 4:  # the kind of 4 bits says nothing there
        made[2] = model.quant_type
    return made == [model.fingerprint, model.bits, model.quant_type]
