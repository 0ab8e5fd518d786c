"""What these tests share. A model that is read from disk as it runs does what it does in memory, within its budget."""

import pytest
import torch

from workbench import load
from workbench.errors import QuantizationError
from workbench.loading.sizes import size_in_bytes

IDS = [1, 45, 99, 7, 300, 45, 211]


ARCHITECTURES = {"moe": "PanguProMoE", "dense": "PanguEmbedded"}


def least_bytes(folder, bits) -> int:
    """What the error names as the smallest workable budget."""
    with pytest.raises(QuantizationError, match="the minimum is") as caught:
        load(folder, bits=bits, device="cpu", memory="1KB")
    return size_in_bytes(str(caught.value).partition("the minimum is ")[2].partition(",")[0])


def filled_bytes(model) -> int:
    """Bytes of everything that the modules hold, counted on the tensors themselves."""
    storages = {}

    def add(tensor):
        if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()

    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            add(parameter.data)
            state = getattr(parameter, "quant_state", None)
            for holder in (state, getattr(state, "state2", None)):
                for value in vars(holder).values() if holder is not None else ():
                    add(value)
            for name in ("CB", "SCB"):
                add(getattr(parameter, name, None))
                add(getattr(getattr(module, "state", None), name, None))
    return sum(storages.values())


def filled_modules(model) -> int:
    return sum(
        any(p.device.type != "meta" and p.numel() for p in module.parameters(recurse=False))
        for module in model.modules()
    )
