"""What was loaded and how it is stored, counted on the loaded modules themselves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import bitsandbytes as bnb
import pandas as pd
import torch
from torch import nn

from workbench.errors import QuantizationError
from workbench.linear.ascend_linear import AscendLinear
from workbench.loading.plan import Plan
from workbench.loading.precision import DTYPES
from workbench.loading.sizes import format_size, format_table
from workbench.loading.streaming import Streaming
from workbench.loading.tensors import component_of, is_quantizable

FORMATS = {
    "parameters": "{:,}", "bytes": "{:,}", "kept_bytes": "{:,}", "quantized_share": "{:.1%}"
}  # fmt: skip


@dataclass(frozen=True)
class Receipt:
    """What was loaded and how it is stored, counted on the loaded modules.

    Attributes
    ----------
    frame : pandas.DataFrame
        component, parameters, stored (for example "nf4 + bf16"), bytes, quantized_share (of the
        parameters, 0 to 1). Of a model whose weights stay on disk: bytes as they would be in
        memory, at most, and kept_bytes, which are in memory all the time.
    memory_bytes : int or None
        The most that the weights take at one time, where they stay on disk.
    """

    frame: pd.DataFrame
    bits: int
    device: str
    name: str
    memory_bytes: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, as they are in memory."""
        return int(self.frame["bytes"].sum())

    @property
    def summary(self) -> dict[str, Any]:
        """The receipt as plain values, for a trace's header."""
        told = {
            "bits": self.bits,
            "device": self.device,
            "bytes": self.nbytes,
            "stored": dict(zip(self.frame["component"], self.frame["stored"], strict=True)),
        }
        return told if self.memory_bytes is None else told | {"memory_bytes": self.memory_bytes}

    def __str__(self) -> str:
        parameters = int(self.frame["parameters"].sum())
        return (
            f"{self.name} in {self.bits} bit on {self.device}: {parameters:,} parameters, "
            f"{self.nbytes / 1e9:.3f} GB{self._on_disk}\n" + format_table(self.frame)
        )

    @property
    def _on_disk(self) -> str:
        if self.memory_bytes is None:
            return ""
        return f" left on disk; at most {format_size(self.memory_bytes)} in memory at a time"

    def _repr_html_(self) -> str:
        head, _, _ = str(self).partition("\n")
        shown = self.frame.style.format(
            {key: form for key, form in FORMATS.items() if key in self.frame}
        ).hide(axis="index")
        return f"<p>{head}</p>{shown.to_html()}"


def make_receipt(model: nn.Module, plan: Plan) -> Receipt:
    """Count what every module really holds.

    Raises
    ------
    QuantizationError
        If a routed or shared expert is not quantized although it was planned.
    """
    in_float = plan.in_float
    parameters, sizes, share = defaultdict(int), defaultdict(int), defaultdict(int)
    kinds: dict[str, list[str]] = defaultdict(list)
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            full_name = f"{module_name}.{leaf}"
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            component = component_of(full_name)
            count, size, kind = _count(module, leaf, parameter)
            parameters[component] += count
            sizes[component] += size
            if kind in ("nf4", "fp4", "int8") or (
                isinstance(module, AscendLinear) and leaf != "bias"
            ):
                share[component] += count
            elif plan.bits < 16 and is_quantizable(full_name) and full_name not in in_float:
                raise QuantizationError(
                    f"{full_name} is stored in {kind} although {plan.bits} bit was requested."
                )
            if kind not in kinds[component]:
                kinds[component].append(kind)
    frame = pd.DataFrame(
        {
            "component": list(parameters),
            "parameters": list(parameters.values()),
            "stored": [" + ".join(kinds[component]) for component in parameters],
            "bytes": list(sizes.values()),
            "quantized_share": [share[c] / parameters[c] for c in parameters],
        }
    )
    return Receipt(frame, plan.bits, plan.device, plan.name)


def make_streamed_receipt(streaming: Streaming) -> Receipt:
    """Tell from the files' headers what the weights of a streamed model are when they are filled."""
    filler, plan = streaming.filler, streaming.filler.plan
    kept = {m for u in streaming.kept for m in streaming.units[u].modules}
    rows: dict[str, dict[str, Any]] = {}
    names = {dtype: name for name, dtype in DTYPES.items()}
    for module_name in filler.modules:
        row = rows.setdefault(
            component_of(f"{module_name}.{filler.parts(module_name)[0]}"),
            {"parameters": 0, "stored": {}, "bytes": 0, "kept_bytes": 0, "quantized": 0},
        )
        row["bytes"] += filler.held_bytes(module_name)
        row["kept_bytes"] += filler.held_bytes(module_name) * (module_name in kept)
        if (module := filler.quantized.get(module_name)) is not None:
            count = module.in_features * module.out_features
            row["quantized"] += count
            row["parameters"] += count
            ascend = isinstance(module, AscendLinear)
            row["stored"][module.kind.lower() if ascend else plan.stored_type] = None
        for count, kind in filler.float_parts(module_name).values():
            row["parameters"] += count
            row["stored"][names[kind]] = None
    frame = pd.DataFrame(
        {
            "component": list(rows),
            "parameters": [row["parameters"] for row in rows.values()],
            "stored": [" + ".join(row["stored"]) for row in rows.values()],
            "bytes": [row["bytes"] for row in rows.values()],
            "kept_bytes": [row["kept_bytes"] for row in rows.values()],
            "quantized_share": [row["quantized"] / row["parameters"] for row in rows.values()],
        }
    )
    return Receipt(frame, plan.bits, plan.device, plan.name, streaming.memory_bytes)


def _count(module: nn.Module, leaf: str, parameter: nn.Parameter) -> tuple[int, int, str]:
    """Parameters, bytes in memory, and the name of the storage."""
    size = parameter.numel() * parameter.element_size()
    if leaf == "weight" and isinstance(module, bnb.nn.Linear4bit):
        state = parameter.quant_state
        tables = [state.absmax, state.code]
        if state.nested:
            tables += [state.state2.absmax, state.state2.code, state.offset]
        size += sum(table.numel() * table.element_size() for table in tables)
        return module.in_features * module.out_features, size, state.quant_type
    if leaf == "weight" and isinstance(module, bnb.nn.Linear8bitLt):
        if parameter.dtype != torch.int8:
            return parameter.numel(), size, str(parameter.dtype).removeprefix("torch.")
        return parameter.numel(), size + 4 * module.out_features, "int8"
    if isinstance(module, AscendLinear) and leaf != "bias":
        count = module.in_features * module.out_features if leaf == "weight" else 0
        return count, size, module.kind.lower()
    names = {dtype: name for name, dtype in DTYPES.items()}
    return parameter.numel(), size, names.get(parameter.dtype, str(parameter.dtype))
