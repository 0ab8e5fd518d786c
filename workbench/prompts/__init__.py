"""What people keep of their work with prompts, in files that people can read.

`history.py` keeps generations (an `entries.py` each, shown by `history_page.py`), `presets.py` settings
under a name, `branches.py` the tree of one prompt's generations. `prompt_matrix.py` runs a
`prompt_template.py` under several values, settings and models (`matrix_inputs.py`) and keeps its cells
(`matrix_cells.py`). `journal.py` is the file of lines below them, `lines.py` what lines hold, `models.py`
what is needed of a model. Start with `history.py`.

May import `generation` and the leaves; no torch.
"""
