"""A Pangu that an OpenAI-compatible server runs: streaming, alternatives, and what is missing."""

from __future__ import annotations

import re
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from math import nan
from typing import Any
from urllib.parse import urlsplit

from workbench import __version__
from workbench.arguments import whole_number
from workbench.conversation import checked_turns, require_thinking
from workbench.errors import GenerationError, ServerError
from workbench.generation.recipe import Recipe
from workbench.generation.sampling import Sampling, checked_sampling
from workbench.generation.steps import Generation, Step
from workbench.generation.stop_strings import checked_stop_strings
from workbench.server.line import LOOPBACK, Line, api_key
from workbench.server.tokens import NAMED_BY_ID, ChunkReader, Vocabulary, content_of, piece

EXTENDED = ("vllm", "sglang", "llamacpp")  # they take top_k, min_p and repetition_penalty
MOST_ALTERNATIVES = {"chat": 20, "completions": 20}
MOST_OF_OPENAI = {"chat": 20, "completions": 5}
INSIDE = (
    "the server sends text and probabilities only; load() the checkpoint on this machine for it."
)
OFF = {"top_k": 0, "min_p": 0, "repetition_penalty": 1}  # of what some servers do not take
MISSING = {
    "trace": f"What happens inside the model cannot be recorded: {INSIDE}",
    "routing": f"Which experts a token used cannot be seen: {INSIDE}",
    "attention": f"What a token attended to cannot be seen: {INSIDE}",
    "memory": "The memory is the server's, and it does not tell how much it uses.",
    "receipt": "How the weights are stored is known to the server alone.",
    "entropy": "The entropy needs the probabilities of all tokens; the server sends the best ones.",
    "drawn": "The server does not tell what its sampling settings left of a token's probability.",
    "template": (
        "The server puts the conversation through its own chat template and does not send the "
        "result; in raw text you write all of it yourself."
    ),
    "prefixes": "The server keeps its own cache of shared prefixes; nothing is to be done here.",
}


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
            "context": ("", "The server does not tell how long its context is.")[
                self.context is None
            ],
            "chat_branches": ""
            if self.engine == "vllm"
            else "This server cannot go on with a begun answer of a chat; raw text can be branched.",
        } | {
            name: ""
            if self.extensions
            else f"{name} is no setting of OpenAI's interface, and this server does not say that it "
            "takes it (connect(…, extensions=True) if it does)."
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
        given = self._given(tuple(begun), reader)
        if problems := self.unsupported(sampling):
            raise GenerationError(" ".join(problems))
        if record is not False:
            raise GenerationError(self.missing("trace"))
        endpoint, request = self._request(
            prompt, max_new_tokens, sampling, thinking, alternatives, stop_strings, given
        )
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
            begun=tuple(piece(self._content(step)) for step in given),
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
        from workbench.server.errors import explained

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

    def _request(
        self,
        prompt: Any,
        max_new_tokens: int,
        sampling: Sampling,
        thinking: str,
        alternatives: int,
        stop_strings: tuple[str, ...],
        begun: Sequence[Step],
    ) -> tuple[str, dict[str, Any]]:
        require_thinking(thinking)
        count = whole_number("max_new_tokens", max_new_tokens, GenerationError, "1 or more")
        alternatives = whole_number("alternatives", alternatives, GenerationError, "0 or more")
        if count < 1 or alternatives < 0:
            raise GenerationError(
                f"max_new_tokens is {count}, alternatives {alternatives}; expected at least 1 and 0."
            )
        request: dict[str, Any] = {
            "model": self.name,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }
        if sampling.logit_bias:
            request["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
        if stop_strings:
            request["stop"] = list(stop_strings)
        extra: dict[str, Any] = {}
        if self.extensions:  # all of them: what is left out, vLLM takes from the checkpoint
            extra |= {
                "top_k": sampling.top_k or -1,
                "min_p": sampling.min_p,
                "repetition_penalty": sampling.repetition_penalty,
            }
        if self.engine == "vllm":
            extra |= {"return_token_ids": True, "skip_special_tokens": False}
        official = self.url.startswith("https://api.openai.com/")
        most = MOST_OF_OPENAI if official else MOST_ALTERNATIVES
        written = self._written(begun)
        if isinstance(prompt, str) or not _is_conversation(prompt):
            endpoint = "completions"
            prompt = prompt if isinstance(prompt, str) else self._ids(prompt)
            if not prompt:
                raise GenerationError("the prompt is empty; type something first.")
            if written and not isinstance(prompt, str):
                raise GenerationError(
                    "a begun answer needs its prompt as a text or a conversation, not as token ids."
                )
            request |= {
                "prompt": prompt + written if written else prompt,
                "max_tokens": count,
                "logprobs": min(alternatives, most[endpoint]),
            }
        else:
            endpoint = "chat"
            turns = checked_turns(prompt, thinking)
            if written:
                if reason := self.missing("chat_branches"):
                    raise GenerationError(reason)
                turns.append({"role": "assistant", "content": written})
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

    def _given(self, begun: Sequence[int | str | Step], reader: ChunkReader) -> list[Step]:
        """Begun tokens as Steps, each with its own text; the reader goes on from them."""
        steps = []
        for place, item in enumerate(begun):
            step = self._step(item)
            text, span = reader.given(self._content(step))
            if not isinstance(item, Step):
                step = replace(step, text=text, span=span)
            elif place == len(begun) - 1:
                # Where a branch leaves, the token was exchanged, and the text is still the other's.
                step = replace(step, text=text)
            steps.append(step)
        return steps

    def _step(self, item: int | str | Step) -> Step:
        if isinstance(item, Step):
            return item
        if isinstance(item, str):
            if by_id := NAMED_BY_ID.fullmatch(item):
                return Step(int(by_id[1]), item, "", nan, (), "answer")
            token_id = self._vocabulary.learn(None, content_of(item))
            return Step(token_id, item, "", nan, (), "answer")
        known = self._vocabulary.content(item)
        if known is None:
            raise GenerationError(
                f"token {item} never came from {self.url}; begin with its Step or its piece."
            )
        return Step(item, piece(known), "", nan, (), "answer")

    def _content(self, step: Step) -> bytes:
        """A token's bytes, as its piece tells them, in whatever session it came."""
        if not NAMED_BY_ID.fullmatch(step.piece):
            return content_of(step.piece)
        known = self._vocabulary.content(step.token_id)
        if known is None:
            raise GenerationError(
                f"the server names a token only by its id, {step.piece!r}, so nothing can be begun "
                "with it; start the server without --return-tokens-as-token-ids."
            )
        return known

    def _written(self, begun: Sequence[Step]) -> str:
        """What the server is to go on from: the bytes of the tokens, special ones by name."""
        return b"".join(map(self._content, begun)).decode("utf-8", errors="replace")

    @staticmethod
    def _ids(prompt: Any) -> list[int]:
        if hasattr(prompt, "tolist"):
            prompt = prompt.tolist()
        expected = "a token id; a prompt is a text, a list of ids or a list of messages"
        return [
            whole_number("an item of the prompt", item, GenerationError, expected)
            for item in prompt
        ]


class RemoteStream(Iterator[Step]):
    """An answer that is read while one iterates over it; made by `RemotePangu.stream`.

    Attributes
    ----------
    finish_reason : str or None
        None while it goes on; as of a `Generation`, or a word of the server's own such as
        "content_filter". "stop" where there are stop strings and the server does not tell whether
        one of them or the model ended the answer.
    recipe : Recipe
    """

    def __init__(
        self,
        pangu: RemotePangu,
        endpoint: str,
        request: dict[str, Any],
        stop: threading.Event | None,
        recipe: Recipe,
        begun: list[Step],
        reader: ChunkReader,
    ) -> None:
        self.finish_reason: str | None = None
        self.recipe = recipe
        self._pangu = pangu
        self._reader = reader
        self._line = Line(pangu, stop)
        self._steps = list(begun)
        self._begun = len(self._steps)
        self._iterator = self._read(endpoint, request)

    def __next__(self) -> Step:
        return next(self._iterator)

    def close(self) -> None:
        """Close the connection; the server can then stop computing."""
        self._iterator.close()
        self.finish_reason = self.finish_reason or "stopped"

    @property
    def generation(self) -> Generation:
        """What has come so far, at any time."""
        reader = self._reader
        # A begun answer was sent as a part of the prompt: its ids are not the prompt's alone.
        prompt_ids = () if self._begun else reader.prompt_ids
        return Generation(
            token_ids=(*prompt_ids, *(step.token_id for step in self._steps)),
            prompt_length=len(prompt_ids),
            steps=tuple(self._steps),
            finish_reason=self.finish_reason or "stopped",
            stop_string=reader.stop_reason if isinstance(reader.stop_reason, str) else None,
            recipe=self.recipe,
        )

    def _read(self, endpoint: str, request: dict[str, Any]) -> Iterator[Step]:
        before, chunks = time.perf_counter(), 0
        for chunk in self._line.chunks(endpoint, request):
            if isinstance(chunk, str):
                raise self._broken(chunk)
            chunks += 1
            try:
                steps = self._reader.read(chunk)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise self._broken(self._pangu.explain(error, chunks)) from error
            now = time.perf_counter()
            for step in steps:
                step = replace(step, seconds=(now - before) / len(steps))
                self._steps.append(step)
                yield step
            before = now
        if self._reader.finish_reason is None and not self._line.stopped:
            if not chunks:
                raise self._broken(
                    f"{self._pangu.url} answered without an error and without a word; is this the "
                    "right address? It usually ends in /v1."
                )
            raise self._broken(
                f"{self._pangu.url} ended its answer without saying that it was finished; the "
                "server may have been stopped. Generate again."
            )
        self.finish_reason = self._reason()

    def _reason(self) -> str:
        reason = self._reader.finish_reason
        if reason is None or reason == "abort":
            return "stopped"
        if reason != "stop":
            return reason
        if isinstance(self._reader.stop_reason, str):
            return "stop_string"
        return "stop" if self.recipe.stop_strings and self._pangu.engine != "vllm" else "eos"

    def _broken(self, sentence: str) -> ServerError:
        self.finish_reason = "stopped"
        if count := len(self._steps) - self._begun:
            sentence += f" What came before is kept ({count} tokens)."
        error = ServerError(sentence)
        error.generation = self.generation
        return error


# -- inside -------------------------------------------------------------------------------------


def as_taken(model: Any, sampling: Sampling) -> Sampling:
    """The settings as far as a model takes them: what a server does not take is off."""
    if not isinstance(model, RemotePangu):
        return sampling
    return replace(sampling, **{name: off for name, off in OFF.items() if model.missing(name)})


def _checked_url(url: str, api_key_env: str | None) -> str:
    parts = urlsplit(str(url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerError(
            f'{url!r} is no address; expected one such as "http://localhost:8000/v1".'
        )
    if parts.username or parts.password:
        raise ServerError(
            "the address holds a user name or password, which would be shown with it; put the key "
            "into an environment variable and pass its name as api_key_env."
        )
    if api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", api_key_env):
        raise ServerError(
            "api_key_env is no name of an environment variable; expected one in capital letters "
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


def _is_conversation(prompt: Any) -> bool:
    return (
        not hasattr(prompt, "tolist")
        and isinstance(prompt, Sequence)
        and bool(prompt)
        and all(isinstance(turn, Mapping) for turn in prompt)
    )
