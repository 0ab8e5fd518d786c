"""Attention heads by a score: a map of layers × heads, a ranking, and every score of one head.

`view.py` is the widget. In the page `view.js` puts the parts together: `controls.js`, `head_map.js`,
`ranking.js`, `head_card.js` and `number_table.js`; they share `state.js`. `scores.js` (what the page was
told), `shown.js` (one score of every head), `map_grid.js`, `number_columns.js` and `words.js` draw nothing.
"""
