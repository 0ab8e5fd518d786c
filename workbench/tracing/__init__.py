"""What is recorded while a model runs, and how it becomes a Trace or a corpus.

`capture.py` runs a text and keeps what the model did; `recording.py` has the hooks, `arrays.py` what
becomes of their tensors, `corpus_recording.py` many documents as sums (in a `corpus_folder.py`),
`probes.py` texts made to ask a model one question. `engine.py` says what all of them need of a
loaded model. Start with `capture.py`.

May import `generation`, `analysis`, `traces`, `checkpoints` and the leaves.
"""
