"""The checkpoints that ship, their texts, and the scripts that made them.

`checkpoints/` holds `demo` (mixture of grouped experts) and `demo-dense`, each with its model card.
`train.py` makes them: `corpus.py` fetches the texts (`texts.py` has those that ship), `tokenizer.py` makes
the tokenizer, `recipes.py` says what is trained, `grouped_experts.py` and `muon.py` are for training alone,
`export.py` writes the result, `evaluate.py` measures it. Start with `train.py`.

Nothing imports this wing; it may import all others.
"""
