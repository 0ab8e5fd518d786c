"""The attention view: what every head attends to.

`view.py` is the widget. `recorded.py` holds a text's queries and keys, `selection.py` what is shown of
them; from that come `tables.py`, `figures.py` and, over `maps.py`, what the page is told in
`messages.py`. `saved_page.py` is what a page without a kernel takes along, `live.py` records while a
model generates, `limits.py` says which settings go with a text.

`view.js` puts the page together: `state.js` is what its panels share, `weights.js` and `tile.js` work
out the numbers. The panels are `controls.js`, `small_maps.js`, `large_map.js`, `text_panel.js`,
`token_lists.js` and `reading.js`.
"""
