"""The grid of a prompt matrix (`workbench.prompts.prompt_matrix`): texts, ratings and notes.

`view.py` is the widget. In the page `view.js` puts the parts together: `progress.js` (Run and Stop),
`grid.js` with a `cell.js` for each cell, and `detail.js` (the selected one); they share `state.js`.
`moving.js` and `words.js` draw nothing.
"""
