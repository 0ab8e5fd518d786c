"""What is read together of a model that stays on disk, and how much memory that needs at least."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from workbench.errors import QuantizationError
from workbench.loading.filling import Filler
from workbench.loading.plan import Plan
from workbench.loading.sizes import format_size, size_to_ask_for

UNIT = re.compile(r"(model\.layers\.\d+)(?:\.mlp\.experts\.\d+)?(?=\.)")


@dataclass(frozen=True)
class Unit:
    """Modules that are filled and emptied together.

    `layer` is the layer's name for a routed expert, else None; `nbytes` is what the unit holds in
    memory, at most.
    """

    name: str
    modules: tuple[str, ...]
    nbytes: int
    layer: str | None


def units_of(filler: Filler) -> dict[str, Unit]:
    """What is read together, by name, in the order of use: layers, experts, last norm, head.

    Embeddings are among them where they are the head as well.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for module in filler.modules:
        match = UNIT.match(module + ".")
        groups[match[0] if match else module].append(module)
    if not filler.checkpoint.config.tie_word_embeddings:
        del groups["model.embed_tokens"]
    return {
        name: Unit(
            name,
            tuple(modules),
            sum(filler.held_bytes(module) for module in modules),
            name.partition(".mlp.")[0] if ".experts." in name else None,
        )
        for name, modules in groups.items()
    }


def with_least_bytes(plan: Plan) -> Plan:
    """The plan with the least memory that it can be run with, where weights stay on disk.

    No weight is read; `Streaming` refuses what has less.
    """
    if plan.memory_bytes is None or plan.must_convert:
        return plan
    return replace(plan, least_bytes=needed_bytes(units_of(Filler(plan)), ()))


def require_least(least_bytes: int, memory_bytes: int, name: str) -> None:
    """Refuse a budget that the model `name` cannot be run with.

    Raises
    ------
    QuantizationError
        Which tells the least one.
    """
    if least_bytes > memory_bytes:
        least = size_to_ask_for(least_bytes)
        raise QuantizationError(
            f"{name} cannot be run with {format_size(memory_bytes)} for its weights: the minimum is "
            f"{least}, for its largest layer (in a mixture-of-experts model without its experts, "
            f'and one of them) or its head. Pass memory="{least}" or more.'
        )


def needed_bytes(units: Mapping[str, Unit], kept: Collection[str]) -> int:
    """The least memory that works when the units `kept` stay in it.

    Beside them there must be room for whatever else runs at one time: a layer and one expert of
    it, or the head.
    """
    experts: dict[str | None, int] = defaultdict(int)  # layer → its largest expert
    for unit in units.values():
        if unit.layer:
            experts[unit.layer] = max(experts[unit.layer], unit.nbytes)
    return sum(units[name].nbytes for name in kept) + max(
        (0 if unit.name in kept else unit.nbytes) + experts[unit.name]
        for unit in units.values()
        if not unit.layer
    )


def kept_units(units: Mapping[str, Unit], memory_bytes: int) -> tuple[str, ...]:
    """Units that every token uses, as many as leave enough room for the others to come and go."""
    layers = sorted(
        (name for name in units if re.fullmatch(r"model\.layers\.\d+", name)),
        key=lambda name: int(name.rpartition(".")[2]),
    )
    head = "lm_head" if "lm_head" in units else "model.embed_tokens"
    kept: list[str] = []
    for name in ("model.norm", head, *layers):
        if needed_bytes(units, [*kept, name]) <= memory_bytes:
            kept.append(name)
    return tuple(kept)
