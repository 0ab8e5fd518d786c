"""Where a model's modules stand: on one device, or spread over several GPUs by accelerate."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import psutil
import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import CustomDtype
from torch import nn

from workbench.errors import QuantizationError

USED_SHARE = 0.85  # of a GPU's free memory: accelerate does not count the scales of 4-bit weights


def chosen_device(device: str) -> str:
    """The device that is meant: "cpu", "cuda", "cuda:1", or several as "cuda:0+cuda:1".

    "auto" means all CUDA devices, or the CPU where there is none.

    Raises
    ------
    QuantizationError
        For a device that is not known, not supported, not there, or named twice.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = [f"cuda:{index}" for index in range(count)]
    if device == "auto":
        device = "+".join(there) if count > 1 else "cuda" if count else "cpu"
    try:
        named = [torch.device(name) for name in devices_of(device)]
    except (RuntimeError, TypeError, AttributeError) as error:
        raise QuantizationError(f"device is {device!r}; expected auto, cpu or cuda.") from error
    if not {one.type for one in named} <= {"cpu", "cuda"}:
        raise QuantizationError(f"device is {device!r}; only cpu and cuda are supported.")
    if any(one.type == "cuda" and (one.index or 0) >= count for one in named):
        raise QuantizationError(
            f'device is "{device}", and this machine has {", ".join(there) or "none"}; '
            f'use device="{there[0] if there else "cpu"}".'
        )
    several = {one.index for one in named if one.type == "cuda"} - {None}
    if len(named) > 1 and len(several) < len(named):
        raise QuantizationError(
            f'device is "{device}"; if you name several, each must be a different GPU with its number, as '
            'in "cuda:0+cuda:1".'
        )
    return device


def devices_of(device: str) -> list[str]:
    """The single devices of a name such as "cuda:0+cuda:1"."""
    return device.split("+")


def free_bytes(device: str) -> int:
    """What a device has free now, or several have together."""
    if torch.device(devices_of(device)[0]).type == "cpu":
        return int(psutil.virtual_memory().available)
    return sum(torch.cuda.mem_get_info(name)[0] for name in devices_of(device))


def placement(
    model: nn.Module, device: str, dtype: torch.dtype, quantized: Collection[str], bits: int
) -> dict[str, str]:
    """Module name → device; "" is the whole model. Several devices are shared out by accelerate.

    Parameters
    ----------
    model
        Empty, on the meta device.
    dtype
        Of what is not quantized.
    quantized
        Names of the modules whose weights have so many `bits`.

    Raises
    ------
    QuantizationError
        If the devices together do not hold the model.
    """
    names = devices_of(device)
    if len(names) == 1:
        return {"": device}
    kind = {4: CustomDtype.INT4, 8: torch.int8}.get(bits, dtype)
    found = infer_auto_device_map(
        model,
        max_memory={torch.device(name).index: int(USED_SHARE * free_bytes(name)) for name in names},
        no_split_module_classes=list(model._no_split_modules),
        dtype=dtype,
        special_dtypes={f"{name}.weight": kind for name in quantized},
    )
    if outside := [module for module, place in found.items() if not isinstance(place, int)]:
        raise QuantizationError(
            f"{device} together do not hold the model: no room is left for {outside[0]} (of each "
            f"{USED_SHARE:.0%} of what is free is used). Use fewer bits, or memory=."
        )
    return {module: f"cuda:{place}" for module, place in found.items()}


def device_of(module_name: str, places: Mapping[str, str]) -> str:
    """The device of the nearest parent that a placement names."""
    name = module_name
    while name not in places and name:
        name = name.rpartition(".")[0]
    return places[name]


def dispatch(model: nn.Module, places: Mapping[str, str]) -> None:
    """Let accelerate carry what a layer gets to the layer's device; one device needs nothing."""
    if len(set(places.values())) > 1:
        dispatch_model(
            model,
            dict(places),
            main_device=device_of("model.embed_tokens", places),
            skip_keys=model._skip_keys_device_placement,
            force_hooks=True,
        )
