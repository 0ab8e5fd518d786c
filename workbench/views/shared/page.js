/** A page of one widget. `widget` and `PAGE` stand before it: the view's script, its traits and answers. */
import { standIn } from "./stand_in.js";

// eslint-disable-next-line no-unused-vars -- `listeners` is for whoever looks into a page
const { model, listeners } = standIn(PAGE.values, PAGE.answers);
widget.render({ model, el: document.getElementById("view") });
