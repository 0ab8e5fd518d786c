"""What was recorded, read without torch: the border between running a model and reading its traces.

`trace.py` holds the Trace, the one currency of the workbench, and `trace_file.py` its file;
`corpus.py` the sums over many documents, `documents.py` what every measure reads of either, and
`imported.py` what serving engines recorded. Start with `trace.py`.

Imports nothing but the leaves (`errors`, `arguments`, `conversation`, `locks`, `wording`); every
other wing may import it.
"""
