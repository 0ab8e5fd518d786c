"""The playground: prompts in, text out, with the model's choices in view.

`view.py` is the widget, in layers: `state.py` (what is on screen), `panels.py` (what is open below),
`answers.py` (from what is asked to an answer on the page). `engine.py` is what it asks of the model,
`messages.py` what the page is told, `kept.py` what the history keeps of the branches. Start with
`view.py`.

On the page `view.js` puts the parts together, each named by what it shows; `state.js` is what they share,
`messages.js` what they hear from Python. `words.js` and `token_colours.js` draw nothing. Start with
`view.js`.
"""
