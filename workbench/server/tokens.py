"""The chunks of an OpenAI-compatible server, read as Steps.

Shapes that are understood (read in the servers' sources and documents):

* chat: ``logprobs.content`` lists tokens with ``logprob``, ``bytes`` and ``top_logprobs``; some
  servers add ``id``. Thinking comes as ``delta.reasoning`` or ``delta.reasoning_content`` where the
  server has a parser for it, else inside the text between [unused16] and [unused17].
* completions: ``logprobs`` holds the lists ``tokens``, ``token_logprobs`` and ``top_logprobs``.
* vLLM sends ``token_ids`` where it is asked to. Started with --return-tokens-as-token-ids it names
  tokens "token_id:123"; in a chat the bytes of a chosen token are still its text. Those of an
  alternative spell that name, and completions have no bytes: what such a token says is unknown.
* vLLM writes -9999 for a log-probability of minus infinity.
"""

from __future__ import annotations

import codecs
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.generation.steps import Alternative, Step

NAMED_BY_ID = re.compile(r"token_id:(\d+)")
SPECIAL = re.compile(r"\[unused\d+\]|</?s>|<unk>")
BYTES = re.compile(r"(<0x[0-9A-F]{2}>)+")
THINKING_STARTS, THINKING_ENDS = "[unused16]", "[unused17]"
LEAST_LOGPROB = -9999.0


class Vocabulary:
    """What is known of a server's tokens: which bytes belong to which id.

    Where a server tells no id a negative number stands for the token: a hash of its bytes, the
    same in every session.
    """

    def __init__(self) -> None:
        self._content: dict[int, bytes] = {}

    def learn(self, token_id: int | None, content: bytes) -> int:
        """The id of a token with these bytes; a negative one if the server told none."""
        if token_id is None:
            digest = hashlib.sha256(content).digest()
            token_id = -1 - int.from_bytes(digest[:6], "big")  # exact in a browser's numbers too
        self._content[token_id] = content
        return token_id

    def content(self, token_id: int) -> bytes | None:
        """A token's bytes; None if it never came."""
        return self._content.get(token_id)


class ChunkReader:
    """Reads the chunks of one answer in turn.

    Attributes
    ----------
    finish_reason, stop_reason
        As the server sent them; None until then.
    prompt_ids : tuple of int
        Of the prompt, if the server tells them.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.finish_reason: str | None = None
        self.stop_reason: Any = None
        self.prompt_ids: tuple[int, ...] = ()
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._thinking = False

    def read(self, chunk: Mapping[str, Any]) -> list[Step]:
        """The steps that a chunk adds; none where it brings neither a token nor text.

        A chunk of another shape than OpenAI's raises AttributeError, LookupError, TypeError or
        ValueError.
        """
        if chunk.get("prompt_token_ids"):
            self.prompt_ids = tuple(map(int, chunk["prompt_token_ids"]))
        choices = chunk.get("choices") or []
        if not choices:
            return []
        choice = choices[0]
        if choice.get("prompt_token_ids"):
            self.prompt_ids = tuple(map(int, choice["prompt_token_ids"]))
        if choice.get("finish_reason"):
            self.finish_reason = str(choice["finish_reason"])
        self.stop_reason = choice.get("stop_reason") or self.stop_reason
        delta = choice.get("delta")
        if delta is None:
            text, reasoning = choice.get("text") or "", ""
        else:
            text = delta.get("content") or ""
            reasoning = delta.get("reasoning") or delta.get("reasoning_content") or ""
        tokens = _tokens(choice.get("logprobs"), choice.get("token_ids") or [])
        if not tokens:
            if not text + reasoning:
                return []
            tokens = [{"token": reasoning + text}]
        return self._steps(tokens, reasoning, text)

    def given(self, content: bytes) -> tuple[str, str]:
        """Text and span of a token of the begun answer; what is read goes on from it."""
        name = content.decode("utf-8", errors="replace")
        self._thinking = self._thinking or name == THINKING_STARTS
        span = "thinking" if self._thinking else "answer"
        self._thinking = self._thinking and name != THINKING_ENDS
        return "" if SPECIAL.fullmatch(name) else self._decoder.decode(content), span

    def _steps(self, tokens: list[dict[str, Any]], reasoning: str, text: str) -> list[Step]:
        rest = reasoning + text
        read = 0
        steps = []
        for place, entry in enumerate(tokens):
            token_id, content = self._identify(entry)
            name = content.decode("utf-8", errors="replace")
            starts, ends = name == THINKING_STARTS, name == THINKING_ENDS
            self._thinking = self._thinking or starts
            # What the server says was written is the truth; a token gets its share of it.
            shown = "" if SPECIAL.fullmatch(name) else self._decoder.decode(content)
            if shown and rest.startswith(shown):
                rest = rest[len(shown) :]
            elif SPECIAL.fullmatch(name):
                rest = rest.removeprefix(name)
            else:
                shown = ""
            if place == len(tokens) - 1:
                shown += rest
            span = "thinking" if self._thinking or read < len(reasoning) else "answer"
            read += len(shown)
            logprob = _logprob(entry.get("logprob"))
            others = self._alternatives(entry.get("top_logprobs") or [])
            if others and token_id not in [other.token_id for other in others]:
                others += (Alternative(token_id, piece(content), logprob, True, math.nan),)
            steps.append(Step(token_id, piece(content), shown, logprob, others, span))
            if ends:
                self._thinking = False
        return steps

    def _alternatives(self, entries: Sequence[Mapping[str, Any]]) -> tuple[Alternative, ...]:
        found = []
        for entry in entries:
            token_id, content = self._identify(entry)
            # Whether the sampling settings kept a token, no server tells.
            found.append(
                Alternative(
                    token_id, piece(content), _logprob(entry.get("logprob")), True, math.nan
                )
            )
        return tuple(sorted(found, key=lambda other: -other.logprob))

    def _identify(self, entry: Mapping[str, Any]) -> tuple[int, bytes]:
        name = str(entry.get("token") or "")
        token_id = None if entry.get("id") is None else int(entry["id"])
        told = entry.get("bytes")
        content = bytes(list(told)) if told else name.encode("utf-8", "replace")
        if by_id := NAMED_BY_ID.fullmatch(name):
            token_id = int(by_id[1])
            if content == name.encode():  # its name is nothing to learn
                return token_id, self._vocabulary.content(token_id) or content
        return self._vocabulary.learn(token_id, content), content


def piece(content: bytes) -> str:
    """Printable: bytes that are no whole character as "<0xE4>"."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in content)


def content_of(shown: str) -> bytes:
    """The bytes of a token that `piece` made printable so."""
    if BYTES.fullmatch(shown):
        return bytes.fromhex(shown.replace("<0x", "").replace(">", ""))
    return shown.encode("utf-8", "replace")


# -- inside -------------------------------------------------------------------------------------


def _tokens(logprobs: Any, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Tokens with "token", "logprob", "bytes", "top_logprobs" and "id", whichever shape came."""
    logprobs = logprobs or {}
    if logprobs.get("content"):
        tokens = [dict(entry) for entry in logprobs["content"]]
    elif logprobs.get("tokens"):
        count = len(logprobs["tokens"])
        tops = logprobs.get("top_logprobs") or [None] * count
        values = logprobs.get("token_logprobs") or [None] * count
        tokens = [
            {
                "token": token,
                "logprob": value,
                "top_logprobs": [
                    {"token": name, "logprob": other} for name, other in (top or {}).items()
                ],
            }
            for token, value, top in zip(logprobs["tokens"], values, tops, strict=False)
        ]
    else:
        return []
    if len(ids) == len(tokens):
        for token, token_id in zip(tokens, ids, strict=True):
            token["id"] = token_id
            for other in token.get("top_logprobs") or []:
                if other.get("token") == token["token"]:
                    other["id"] = token_id
    return tokens


def _logprob(value: float | None) -> float:
    """NaN where the server tells none."""
    if value is None:
        return math.nan
    return -math.inf if value <= LEAST_LOGPROB else float(value)
