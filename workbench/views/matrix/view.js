/**
 * A prompt matrix: one row per prompt, one column per setting and model; texts, ratings, notes. Here the parts
 * are put together, and Python is heard.
 *
 * @typedef Model
 * @property {number} cell      the selected one, -1 for none
 * @property {boolean} running
 * @property {string} doing  what it does meanwhile, where a token takes long
 *
 * Messages to Python, besides those of all views:
 * {kind}: want, run, stop, {detail, cell}, {rate, cell, rating, note}; rating 0 takes it back.
 * Messages from Python: {kind: "state"} with what `Told` in state.js holds; {kind: "cell", cell, shown};
 * {kind: "more", cell, from, written: [text, span]}; {kind: "progress", done, failed, error};
 * {kind: "detail"} with what `Detail` in detail.js holds.
 */
import { GONE, element, rootOf } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { detail } from "./detail.js";
import { cellGrid } from "./grid.js";
import { progress } from "./progress.js";
import { State } from "./state.js";
import { fileWords, staleWords } from "./words.js";

function render({ model, el }) {
  const root = rootOf(el, "pw-matrix"), page = talk(model, () => run.say(GONE)), state = new State(model, page);
  const file = element("span", "soft small"), hint = element("div", "hint");
  const run = progress(state), grid = cellGrid(state), inside = detail(state);
  hint.hidden = true;
  root.append(
    element("div", "row", element("span", "title", "Prompt matrix"), file), grid.template,
    run.row, run.warn, hint, grid.frame, inside.element,
  );

  function drawProgress() {
    const { cells, done } = state.told;
    run.draw();
    grid.drawRatings();
    root.dataset.state = state.get("running") ? "running" : done < cells.length ? "open" : "done";
  }
  function select() {
    const cell = state.get("cell");
    grid.select();
    inside.element.hidden = !state.shown(cell);
    if (state.shown(cell)) state.send("detail", { cell });
  }
  function drawAll() {
    const { path, stale } = state.told;
    file.textContent = fileWords(path);
    hint.hidden = !stale;
    hint.textContent = staleWords(stale);
    grid.draw();
    select();
    drawProgress();
    root.dataset.ready = "true";
  }

  function hear(message) {
    const { told } = state, { cell } = message;
    if (message.kind === "state") {
      state.told = { ...message, cells: message.cells.map((of) => [...of]) }; // another display of this widget hears the same message
      drawAll();
    } else if (message.kind === "cell" && told.cells[cell]) {
      told.cells[cell][2] = message.shown;
      grid.box(cell).draw();
      if (cell === state.get("cell")) state.send("detail", { cell });
    } else if (message.kind === "more") {
      if (!grid.box(cell)?.take(message.from, message.written)) state.send("want"); // something was missed
    } else if (message.kind === "progress") {
      Object.assign(told, { done: message.done, failed: message.failed, error: message.error });
      drawProgress();
    } else if (message.kind === "detail") {
      if (cell === state.get("cell") && told.cells[cell]) inside.draw(message);
    } else if (message.kind === "absent" && ["run", "rate"].includes(message.asked.kind)) {
      told.error = "This page has no kernel: cells cannot be run or rated here.";
      drawProgress();
    }
  }
  page.on("msg:custom", hear);
  page.on("change:running", drawProgress);
  page.on("change:doing", drawProgress);
  page.on("change:cell", select);
  return page.begin();
}

export default { render };
