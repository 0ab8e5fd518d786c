"""Token by token: from a request to a generation.

`stream.py` goes on by one token at a time: it runs the model, `choosing.py` takes a token from the
logits (`drawing.py` has the filters and the draw, `sampling.py` their settings), `words.py` its text.
`request.py` checks what is asked; `steps.py` is what comes out, `recipe.py` all that it takes to
generate the same again. `prefixes.py` keeps caches for branches, `stopping.py` ends a forward pass,
`turn.py` lets one thread at a time generate, `threads.py` counts torch's own. `engine.py` says what
is needed of a loaded model. Start with `stream.py`.

May import `traces` and the leaves. `sampling`, `steps`, `recipe`, `stop_strings`, `turn` and
`engine` import no torch.
"""
