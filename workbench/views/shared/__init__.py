"""What all views share; it imports no view.

In Python `widget.py` is the base of all widgets and `generating.py` of those that generate (`threads.py`
runs their work, `news.py` tells the page, `words.py` has its words); `scripts.py` puts a view's modules
and styles together, `pages.py` makes pages without a kernel, `printing.py` figures. In the page
`talk.js` speaks with Python, `dom.js` makes elements, `canvas.js`, `colours.js` and `values.js` are
what their names say.
"""
