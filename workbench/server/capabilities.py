"""What a server can do: which settings it takes, and why something cannot be had from it."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling

EXTENDED = ("vllm", "sglang", "llamacpp")  # they take top_k, min_p and repetition_penalty
INSIDE = (
    "the server sends only text and probabilities; load the checkpoint on this machine to see it."
)
OFF = {"top_k": 0, "min_p": 0, "repetition_penalty": 1}  # of what some servers do not take
MISSING = {
    "trace": f"What happens inside the model cannot be recorded: {INSIDE}",
    "routing": f"Which experts a token used cannot be seen: {INSIDE}",
    "attention": f"What a token attended to cannot be seen: {INSIDE}",
    "memory": "The server does not report how much memory it uses.",
    "receipt": "The server does not report how the weights are stored.",
    "entropy": "The entropy needs the probabilities of all tokens; the server sends only the highest ones.",
    "drawn": "The server does not send a token's probability after its sampling filters.",
    "template": (
        "The server applies its own chat template and does not send the "
        "result; in raw text you write all of it yourself."
    ),
    "prefixes": "The server has its own cache of shared prefixes; nothing needs to be done here.",
}


@dataclass(frozen=True)
class Capabilities:
    """What a server takes and tells, as far as is known.

    Attributes
    ----------
    engine : str
        Who the server says it is, such as "vllm"; "" if it does not.
    context : int or None
        Tokens of the model's context, if the server tells.
    extensions : bool
        Whether top_k, min_p and repetition_penalty are sent.
    """

    engine: str
    context: int | None
    extensions: bool

    def missing(self, feature: str) -> str:
        """Why something cannot be had from this server; "" if it can.

        Parameters
        ----------
        feature
            "trace", "routing", "attention", "memory", "receipt", "entropy", "drawn", "template",
            "prefixes", "context", "top_k", "min_p", "repetition_penalty" or "chat_branches".

        Raises
        ------
        GenerationError
            For another name.
        """
        if feature in MISSING:
            return MISSING[feature]
        conditional = {
            "context": ("", "The server does not report the length of its context.")[
                self.context is None
            ],
            "chat_branches": ""
            if self.engine == "vllm"
            else "This server cannot continue a partial answer in a chat; branch in raw text instead.",
        } | {
            name: ""
            if self.extensions
            else f"{name} is not part of OpenAI's API, and this server does not say that it "
            "supports it (if it does: connect(…, extensions=True))."
            for name in ("top_k", "min_p", "repetition_penalty")
        }
        if feature not in conditional:
            known = ", ".join(sorted({*MISSING, *conditional}))
            raise GenerationError(f"there is no feature {feature!r}; there are {known}.")
        return conditional[feature]

    def unsupported(self, sampling: Sampling) -> list[str]:
        """What of these settings the server cannot take, in sentences."""
        found = []
        for name, off in OFF.items():
            value = getattr(sampling, name)
            # The most probable token is kept by any filter.
            idle = sampling.temperature == 0 and name != "repetition_penalty"
            if value != off and not idle and (reason := self.missing(name)):
                found.append(f"{name}={value} cannot be sent: {reason} Set {name}={off}.")
        if any(abs(bias) > 100 for _, bias in sampling.logit_bias):
            found.append("logit_bias goes from -100 to 100 on a server, which would clip the rest.")
        if sampling.seed >= 2**63:
            found.append(f"seed={sampling.seed} cannot be sent: a server takes up to 2^63 - 1.")
        return found
