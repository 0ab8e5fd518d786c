"""Conversations as one string: roles, thinking modes, and the template that joins the turns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from workbench.errors import TokenizerError

ROLES = {"system": "系统", "user": "用户", "assistant": "助手", "tool": "工具", "function": "方法"}
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}[unused9]系统：[unused10]{% endif %}"
    "{{ '[unused9]' + roles[message['role']] + '：' + message['content'] + '[unused10]' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}[unused9]助手：{% endif %}"
)
THINKING_SUFFIX = {"slow": "", "fast": " /no_think", "auto": " /auto_think"}


def checked_turns(messages: Iterable[dict[str, str]], thinking: str) -> list[dict[str, str]]:
    """Copies of the messages, the suffix of `thinking` at the end of the last user message.

    Raises
    ------
    TokenizerError
        For an empty conversation, an unknown role, a message without content, or an unknown
        `thinking`.
    """
    if thinking not in list(THINKING_SUFFIX):
        raise TokenizerError(f"thinking is {thinking!r}; expected one of {list(THINKING_SUFFIX)}.")
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


def render(
    config: dict[str, Any], turns: list[dict[str, str]], add_generation_prompt: bool, file: Path
) -> str:
    """The turns through the `chat_template` of a tokenizer's config, or the released one.

    Raises
    ------
    TokenizerError
        If the template, which is read from `file`, is no text, no Jinja, or fails.
    """
    template = config.get("chat_template") or CHAT_TEMPLATE
    if not isinstance(template, str):
        raise TokenizerError(
            f"the chat_template of {file} is a {type(template).__name__}; expected one template "
            "as a text."
        )
    try:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(template).render(
            messages=turns, add_generation_prompt=add_generation_prompt, roles=ROLES
        )
    except Exception as error:  # a template is a program: anything can go wrong in it
        raise TokenizerError(
            f"the chat_template of {file} failed ({type(error).__name__}: {error}); correct it or "
            "download the file again."
        ) from error


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
