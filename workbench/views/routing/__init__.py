"""The routing view: which experts every token used, in panels that are linked.

`view.py` is the widget, `numbers.py` what it shows of one trace or several, `selection.py` what is
selected, `tables.py` that as DataFrames, `figures.py` for print, `messages.py` what the page is told.
In the page `view.js` puts the panels together (`token_strip.js`, `choice_map.js`, `load_map.js`,
`router_panel.js`, `expert_card.js`), which share `state.js`; `counts.js` and `chance.js` have its
numbers, `choice_grid.js` and `load_grid.js` where cells stand.
"""
