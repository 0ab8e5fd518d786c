"""What a server is asked: the request of one generation, in the names of its interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from workbench.arguments import whole_number
from workbench.conversation import checked_turns, require_thinking
from workbench.errors import GenerationError
from workbench.generation.sampling import Sampling

MOST_ALTERNATIVES = {"chat": 20, "completions": 20}
MOST_OF_OPENAI = {"chat": 20, "completions": 5}


class Server(Protocol):
    """What a request depends on; `workbench.server.remote.RemotePangu` is one."""

    @property
    def url(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def engine(self) -> str: ...

    @property
    def extensions(self) -> bool: ...

    def missing(self, feature: str) -> str: ...


def request_for(
    server: Server,
    prompt: Any,
    max_new_tokens: int,
    sampling: Sampling,
    thinking: str,
    alternatives: int,
    stop_strings: tuple[str, ...],
    begun: str,
) -> tuple[str, dict[str, Any]]:
    """The endpoint, "chat" or "completions", and what it is asked.

    Parameters
    ----------
    begun
        The text from which the server is to go on; "" if none.

    Raises
    ------
    GenerationError
        For an empty prompt, and for what the server cannot do.
    """
    require_thinking(thinking)
    count = whole_number("max_new_tokens", max_new_tokens, GenerationError, "1 or more")
    alternatives = whole_number("alternatives", alternatives, GenerationError, "0 or more")
    if count < 1 or alternatives < 0:
        raise GenerationError(
            f"max_new_tokens is {count}, alternatives {alternatives}; expected at least 1 and 0."
        )
    request: dict[str, Any] = {
        "model": server.name,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
    if sampling.logit_bias:
        request["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    if stop_strings:
        request["stop"] = list(stop_strings)
    extra: dict[str, Any] = {}
    if server.extensions:  # all of them: what is left out, vLLM takes from the checkpoint
        extra |= {
            "top_k": sampling.top_k or -1,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
        }
    if server.engine == "vllm":
        extra |= {"return_token_ids": True, "skip_special_tokens": False}
    official = server.url.startswith("https://api.openai.com/")
    most = MOST_OF_OPENAI if official else MOST_ALTERNATIVES
    if isinstance(prompt, str) or not _is_conversation(prompt):
        endpoint = "completions"
        prompt = prompt if isinstance(prompt, str) else _ids(prompt)
        if not prompt:
            raise GenerationError("the prompt is empty; type something first.")
        if begun and not isinstance(prompt, str):
            raise GenerationError(
                "to continue an answer, pass the prompt as a text or a conversation, not as token ids."
            )
        request |= {
            "prompt": prompt + begun if begun else prompt,
            "max_tokens": count,
            "logprobs": min(alternatives, most[endpoint]),
        }
    else:
        endpoint = "chat"
        turns = checked_turns(prompt, thinking)
        if begun:
            if reason := server.missing("chat_branches"):
                raise GenerationError(reason)
            turns.append({"role": "assistant", "content": begun})
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        request |= {
            "messages": turns,
            "max_completion_tokens" if official else "max_tokens": count,
            "logprobs": True,
            "top_logprobs": min(alternatives, most[endpoint]),
        }
    if extra:
        request["extra_body"] = extra
    return endpoint, request


def _ids(prompt: Any) -> list[int]:
    if hasattr(prompt, "tolist"):
        prompt = prompt.tolist()
    expected = "a token id; a prompt is a text, a list of ids or a list of messages"
    return [
        whole_number("an item of the prompt", item, GenerationError, expected) for item in prompt
    ]


def _is_conversation(prompt: Any) -> bool:
    return (
        not hasattr(prompt, "tolist")
        and isinstance(prompt, Sequence)
        and bool(prompt)
        and all(isinstance(turn, Mapping) for turn in prompt)
    )
