"""A Pangu that an OpenAI-compatible server runs: streaming, alternatives, and what is missing."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from workbench import __version__
from workbench.errors import GenerationError, ServerError
from workbench.generation.recipe import Recipe
from workbench.generation.sampling import Sampling, checked_sampling
from workbench.generation.steps import Generation, Step
from workbench.generation.stop_strings import checked_stop_strings
from workbench.server.begun import Begun
from workbench.server.capabilities import EXTENDED, OFF, Capabilities
from workbench.server.errors import explained
from workbench.server.line import LOOPBACK, Line, api_key
from workbench.server.requests import request_for
from workbench.server.stream import RemoteStream
from workbench.server.tokens import ChunkReader, Vocabulary, piece


def connect(
    url: str,
    model: str | None = None,
    api_key_env: str | None = "OPENAI_API_KEY",
    timeout: float = 60.0,
    extensions: bool | None = None,
) -> RemotePangu:
    """A model behind an OpenAI-compatible server, such as `vllm serve`.

    Parameters
    ----------
    url
        For example "http://localhost:8000/v1"; "/v1" is added to an address without a path.
    model
        Which of the server's models; not needed if it has one.
    api_key_env
        The environment variable that holds the key, where the server wants one. The key is read
        from there for every request, and neither stored nor shown. None sends no key.
    timeout
        Seconds that the server may be silent.
    extensions
        Whether the server takes top_k, min_p and repetition_penalty, which OpenAI's own interface
        has not. None: if it says that it is vLLM, SGLang or llama.cpp.

    Raises
    ------
    ServerError
        If the server cannot be reached, wants another key, or does not have the model.
    """
    url = _checked_url(url, api_key_env)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ServerError(f"timeout is {timeout!r}; expected seconds, more than 0.")
    asked = RemotePangu(url, model or "?", api_key_env, float(timeout), "", None, False)
    listed, trouble = Line(asked).ask(lambda client: [m.to_dict() for m in client.models.list()])
    # Some servers list no models, or fail when they try: a name that was given is then believed.
    if trouble and not (model and re.search(r"\(HTTP (404|405|5\d\d)", trouble)):
        raise ServerError(trouble)
    models = {str(entry.get("id")): entry for entry in listed or []}
    if model is None:
        if not models:
            raise ServerError(f"{url} lists no models: pass model=, the name of the one it serves.")
        if len(models) > 1:
            names = ", ".join(map(repr, list(models)[:20]))
            raise ServerError(f"{url} has several models: pass model=, one of {names}.")
        model = next(iter(models))
    elif models and model not in models:
        names = ", ".join(map(repr, list(models)[:20]))
        raise ServerError(f"{url} has no model {model!r}; it has {names}.")
    entry = models.get(model, {})
    engine = str(entry.get("owned_by") or "")
    context = entry.get("max_model_len")
    return RemotePangu(
        url=url,
        name=model,
        api_key_env=api_key_env,
        timeout=float(timeout),
        engine=engine,
        context=context if isinstance(context, int) else None,
        extensions=engine in EXTENDED if extensions is None else bool(extensions),
    )


@dataclass(frozen=True, eq=False)
class RemotePangu:
    """A model on a server, with the `stream` and `generate` of a loaded one.

    Attributes
    ----------
    url, name : str
    api_key_env : str or None
        The variable that holds the key; the key itself is nowhere in this object.
    timeout : float
        Seconds that the server may be silent.
    engine : str
        Who the server says it is, such as "vllm"; "" if it does not.
    context : int or None
        Tokens of the model's context, if the server tells.
    extensions : bool
        Whether top_k, min_p and repetition_penalty are sent.
    """

    url: str
    name: str
    api_key_env: str | None
    timeout: float
    engine: str
    context: int | None
    extensions: bool
    _vocabulary: Vocabulary = field(default_factory=Vocabulary, repr=False)

    @cached_property
    def _capabilities(self) -> Capabilities:
        return Capabilities(self.engine, self.context, self.extensions)

    def missing(self, feature: str) -> str:
        """Why something cannot be had from this server; see `Capabilities.missing`."""
        return self._capabilities.missing(feature)

    def unsupported(self, sampling: Sampling) -> list[str]:
        """What of these settings the server cannot take, in sentences."""
        return self._capabilities.unsupported(sampling)

    def stream(
        self,
        prompt: str | Sequence[int] | Sequence[dict[str, str]],
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        thinking: str = "slow",
        stop: threading.Event | None = None,
        alternatives: int = 10,
        *,
        stop_strings: str | Iterable[str] = (),
        begun: Iterable[int | str | Step] = (),
        prefixes: None = None,
        record: bool = False,
    ) -> RemoteStream:
        """Token by token, as the server sends them; as `Pangu.stream`.

        A server that sends no log-probabilities gives Steps whose `logprob` is NaN and that may
        hold several tokens. What a server does not tell: `entropy_bits` and `drawn_logprob` are
        NaN, `kept` is True. Where no token ids come, negative numbers stand for tokens. Thinking is
        told from the answer where the server marks it or sends its special tokens (vLLM is asked
        to); else it is a part of the answer.

        Parameters
        ----------
        prompt
            A conversation goes to the server's chat interface; a text or token ids to completions.
        sampling
            Left out, what is suggested for Pangu, as far as the server takes it.
        stop
            When set, the connection is closed at once.
        begun
            The start of the answer; only what follows is yielded. Of a token that never came from
            this server in this session its piece or its Step is needed: an id says nothing then.
            Names such as "[unused17]" are special tokens, "<0xE4>" is a byte.
        prefixes
            Nothing is done with it: the server keeps a cache of its own.

        Raises
        ------
        GenerationError
            For settings that the server cannot take: nothing is dropped silently.
        ServerError
            While it streams; its `generation` holds what came until then.
        """
        sampling = checked_sampling(sampling, as_taken(self, Sampling()))
        stop_strings, reader = checked_stop_strings(stop_strings), ChunkReader(self._vocabulary)
        told = Begun(self._vocabulary, self.url)
        given = told.steps(tuple(begun), reader)
        if problems := self.unsupported(sampling):
            raise GenerationError(" ".join(problems))
        if record is not False:
            raise GenerationError(self.missing("trace"))
        endpoint, request = request_for(
            self, prompt, max_new_tokens, sampling, thinking, alternatives, stop_strings,
            told.text(given),
        )  # fmt: skip
        recipe = Recipe(
            checkpoint=self.name,
            fingerprint="",
            bits=0,
            quant_type="",
            device=self.url,
            prompt=prompt if isinstance(prompt, str) else tuple(prompt),
            prompt_ids=(),
            thinking=thinking,
            sampling=sampling,
            max_new_tokens=max_new_tokens,
            stop_strings=stop_strings,
            begun=tuple(piece(told.content(step)) for step in given),
            versions={"workbench": __version__, "server": self.engine or "unknown"},
            connection=self._connection(),
        )
        return RemoteStream(self, endpoint, request, stop, recipe, given, reader)

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[dict[str, str]],
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        thinking: str = "slow",
        stop: threading.Event | None = None,
        alternatives: int = 10,
        **settings: Any,
    ) -> Generation:
        """Run `stream` to its end; settings as for `stream`."""
        steps = self.stream(
            prompt, max_new_tokens, sampling, thinking, stop, alternatives, **settings
        )
        try:
            for _ in steps:
                pass
        except KeyboardInterrupt as interruption:
            steps.close()
            interruption.generation = steps.generation
            raise
        return steps.generation

    def explain(self, error: Exception, chunks: int) -> str:
        """An error of the connection as a sentence with a way out; the key is never in it."""
        key = api_key(self.api_key_env)
        sentence = explained(
            error, self.url, self.name, self.timeout, self.api_key_env, bool(key), chunks
        )
        return sentence.replace(key, "[key]") if key else sentence

    def _connection(self) -> dict[str, Any]:
        """What `connect` was given besides address and model, where it is not the default."""
        parameters = signature(connect).parameters
        usual = {name: parameters[name].default for name in ("api_key_env", "timeout")}
        usual["extensions"] = self.engine in EXTENDED
        return {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}


def as_taken(model: Any, sampling: Sampling) -> Sampling:
    """The settings as far as a model takes them: what a server does not take is off."""
    if not isinstance(model, RemotePangu):
        return sampling
    return replace(sampling, **{name: off for name, off in OFF.items() if model.missing(name)})


def _checked_url(url: str, api_key_env: str | None) -> str:
    parts = urlsplit(str(url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerError(
            f'{url!r} is not an address; expected one such as "http://localhost:8000/v1".'
        )
    if parts.username or parts.password:
        raise ServerError(
            "the address holds a user name or password, which would be shown with it; put the key "
            "into an environment variable and pass its name as api_key_env."
        )
    if api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", api_key_env):
        raise ServerError(
            "api_key_env is not the name of an environment variable; expected one in capital letters "
            'such as "OPENAI_API_KEY", never the key itself.'
        )
    if parts.scheme == "http" and parts.hostname not in LOOPBACK and api_key(api_key_env):
        warnings.warn(
            f"the key in {api_key_env} goes to {parts.hostname} unencrypted (http); use https or "
            "api_key_env=None.",
            stacklevel=3,
        )
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"
