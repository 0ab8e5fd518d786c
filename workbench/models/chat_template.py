"""Conversations as one string: the template that joins the turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from workbench.conversation import ROLES
from workbench.errors import TokenizerError

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}[unused9]系统：[unused10]{% endif %}"
    "{{ '[unused9]' + roles[message['role']] + '：' + message['content'] + '[unused10]' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}[unused9]助手：{% endif %}"
)


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
