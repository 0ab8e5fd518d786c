"""All experts of a layer as three stacks of matrices, as training wants them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import grouped_mm

ROWS = 128  # an expert's rows in training are a multiple of this


class GroupedExperts(nn.Module):
    """All routed experts of a layer as three tensors: the same maths, faster to train.

    Tokens are sorted by expert, so that one grouped product in bf16 does them all. Each expert's
    rows are filled up to a multiple of ROWS: oneDNN compiles a product once for every shape.
    """

    def __init__(self, experts: nn.ModuleList) -> None:
        super().__init__()
        for name in ("gate_proj", "up_proj", "down_proj"):
            weights = [getattr(expert, name).weight.detach().T for expert in experts]
            setattr(
                self, name, nn.Parameter(torch.stack(weights).contiguous())
            )  # [expert, in, out]

    def forward(
        self, hidden: torch.Tensor, selected_experts: torch.Tensor, routing_weights: torch.Tensor
    ) -> torch.Tensor:
        experts, order = selected_experts.flatten().sort(stable=True)
        counts = torch.bincount(experts, minlength=self.gate_proj.shape[0])
        room = (counts + ROWS - 1) // ROWS * ROWS
        ends = room.cumsum(0)
        shift = (ends - room) - (counts.cumsum(0) - counts)  # [expert], rows of room before it
        place = torch.arange(len(experts)) + shift[experts]
        tokens = place.new_zeros(int(ends[-1])).index_copy(
            0, place, order // selected_experts.shape[-1]
        )
        weights = routing_weights.new_zeros(len(tokens)).index_copy(
            0, place, routing_weights.flatten()[order]
        )  # 0 where a row only fills up
        rows, ends = hidden.bfloat16()[tokens], ends.to(torch.int32)  # [row, hidden]
        gate, up, down = (
            weight.bfloat16() for weight in (self.gate_proj, self.up_proj, self.down_proj)
        )
        inner = nn.functional.silu(grouped_mm(rows, gate, offs=ends)) * grouped_mm(
            rows, up, offs=ends
        )
        output = grouped_mm(inner, down, offs=ends).float() * weights.unsqueeze(-1)
        return torch.zeros(hidden.shape).index_add(0, tokens, output)

    def unstacked(self, prefix: str) -> dict[str, torch.Tensor]:
        """The same weights under the checkpoint's names, [out, in] each."""
        return {
            f"{prefix}.{expert}.{name}.weight": getattr(self, name)[expert].detach().T
            for name in ("gate_proj", "up_proj", "down_proj")
            for expert in range(self.gate_proj.shape[0])
        }
