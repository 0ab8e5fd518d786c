"""The comparison: one prompt under several settings, models or precisions, side by side.

`view.py` is the widget, `columns.py` what is compared, `differences.py` where texts part.
"""
