"""Conversations: roles, thinking modes, and what a message must be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workbench.errors import TokenizerError

Prompt = str | Sequence[int] | Sequence[dict[str, str]]  # a text, token ids, or messages
ROLES = {"system": "系统", "user": "用户", "assistant": "助手", "tool": "工具", "function": "方法"}
THINKING_SUFFIX = {"slow": "", "fast": " /no_think", "auto": " /auto_think"}


def require_thinking(thinking: str) -> None:
    """That a thinking mode is known.

    Raises
    ------
    TokenizerError
        If it is not.
    """
    if thinking not in list(THINKING_SUFFIX):
        raise TokenizerError(f"thinking is {thinking!r}; expected one of {list(THINKING_SUFFIX)}.")


def checked_turns(messages: Iterable[dict[str, str]], thinking: str) -> list[dict[str, str]]:
    """Copies of the messages, the suffix of `thinking` at the end of the last user message.

    Raises
    ------
    TokenizerError
        For an empty conversation, an unknown role, a message without content, or an unknown
        `thinking`.
    """
    require_thinking(thinking)
    if not isinstance(messages, Iterable):
        raise TokenizerError(
            f"the conversation is a {type(messages).__name__}; expected a list of messages."
        )
    turns = [_checked(message) for message in messages]
    if not turns:
        raise TokenizerError("the conversation is empty; pass at least one message.")
    users = [turn for turn in turns if turn["role"] == "user"]
    if users:
        users[-1]["content"] += THINKING_SUFFIX[thinking]
    return turns


def _checked(message: dict[str, str]) -> dict[str, str]:
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise TokenizerError(
            f'a message is {message!r}; expected {{"role": "user", "content": "…"}}.'
        )
    if message["role"] not in list(ROLES):
        raise TokenizerError(
            f"a message has the role {message['role']!r}; expected one of {list(ROLES)}."
        )
    if not isinstance(message["content"], str):
        raise TokenizerError(f"a message's content is {message['content']!r}; expected a text.")
    return dict(message)
