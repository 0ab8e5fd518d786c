"""The comparison: one prompt under several settings, models or precisions, side by side.

`view.py` is the widget, `columns.py` what is compared, `differences.py` where texts part.
In the page `view.js` puts the parts together: `asked.js` (the prompt), `columns.js` and the `column.js` of
each with its `fields.js`; they share `state.js`. `settings.js`, `differences.js` and `words.js` draw nothing.
"""
