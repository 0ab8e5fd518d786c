"""A model behind an OpenAI-compatible server, with the `stream` and `generate` of a loaded one.

`remote.py` connects and generates; `capabilities.py` knows what a server takes and what is missing,
`requests.py` what it is asked, `begun.py` how an answer is gone on with, `stream.py` reads the answer,
`tokens.py` its chunks. `line.py` is the connection, `errors.py` what can go wrong with it. Start with
`remote.py`.

May import `generation` and the leaves; no torch, and openai only when something is asked.
"""
