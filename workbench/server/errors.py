"""What can go wrong with a server, each as a sentence with a way out."""

from __future__ import annotations

MOST_WORDS = 300  # characters of a server's own message


def explained(
    error: Exception,
    url: str,
    model: str,
    timeout: float,
    api_key_env: str | None,
    has_key: bool,
    chunks: int,
) -> str:
    """An exception of the openai library as a sentence.

    Parameters
    ----------
    error
    url, model, timeout, api_key_env, has_key
        Of the connection.
    chunks
        So many pieces of the answer had come.
    """
    import openai

    said = _said(error)
    if isinstance(error, openai.APITimeoutError):
        if chunks:
            return f"{url} sent nothing for {timeout:g} s in the middle of its answer: it is overloaded or has hung."
        return (
            f"{url} did not answer within {timeout:g} s. A long prompt on a busy server takes "
            "longer: connect(…, timeout=…); otherwise check that the server is running."
        )
    if isinstance(error, openai.APIConnectionError):
        if chunks:
            return (
                f"the connection to {url} broke in the middle of the answer{said}. Generate again."
            )
        return (
            f"{url} cannot be reached{said}. Is the server running, and are host and port right? "
            "On a cluster the port may need a tunnel."
        )
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        if not api_key_env:
            way = "pass api_key_env, the name of the environment variable that holds it"
        elif has_key:
            way = f"correct {api_key_env} in the environment"
        else:
            way = f"set {api_key_env} in the environment before the kernel starts"
        state = "rejects the key" if has_key else "requires a key, and none was sent"
        return f"{url} {state} (HTTP {error.status_code}{said}); {way}."
    if isinstance(error, openai.NotFoundError):
        return (
            f"{url} does not know the model {model!r} or has no such interface (HTTP 404{said}); "
            "connect(url) again lists its models. Does the address end in /v1?"
        )
    if isinstance(error, openai.RateLimitError):
        wait = error.response.headers.get("retry-after")
        way = f"wait {wait} s" if wait and wait.isdigit() else "wait a while"
        return f"{url} is limiting requests (HTTP 429{said}); {way} and try again."
    if isinstance(error, openai.APIStatusError):
        if error.status_code >= 500:
            return f"{url} failed (HTTP {error.status_code}{said}); its log should say why."
        way = " alternatives=0 asks for fewer probabilities." if "logprobs" in said else ""
        return f"{url} refuses the request (HTTP {error.status_code}{said}).{way}"
    if isinstance(error, openai.APIError):
        return f"{url} stopped with an error{said}."
    return (
        f"{url} does not answer like OpenAI's API "
        f"({type(error).__name__}); is this the right address? It usually ends in /v1."
    )


def _said(error: Exception) -> str:
    """The server's or the system's own words, short."""
    body = getattr(error, "body", None)
    words = ""
    if isinstance(body, dict):
        words = body.get("message") or body.get("detail") or ""
        if not words and isinstance(body.get("error"), dict | str):
            inner = body["error"]
            words = inner if isinstance(inner, str) else inner.get("message", "")
    elif isinstance(body, str):
        words = body if "<" not in body else "it sent a web page"
    if not words and error.__cause__ is not None:
        words = str(error.__cause__)
    words = " ".join(str(words).split())
    if len(words) > MOST_WORDS:
        words = words[: MOST_WORDS - 1] + "…"
    return f": {words}" if words else ""
