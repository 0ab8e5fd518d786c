/**
 * One prompt, several columns: settings, models or precisions side by side, what differs marked. Here the
 * parts are put together, and Python and the keyboard are heard.
 *
 * @typedef Model
 * @property {string} prompt
 * @property {"chat"|"raw"} mode
 * @property {import("./state.js").Settings[]} columns
 * @property {number} seed          of all columns
 * @property {number} max_new_tokens
 * @property {string[]} stop_strings
 * @property {number} reference     the column that the others are compared with
 * @property {boolean} running
 * @property {string} doing  what it does meanwhile, where a token takes long
 *
 * Messages to Python, besides those of all views: {kind}: want, generate, stop.
 * Messages from Python: {kind: "state"} with what `Told` in state.js holds; {kind: "steps", label, from, steps,
 * status}; {kind: "marks", error, differences, changed}.
 */
import { GONE, button, element, rootOf } from "../shared/dom.js";
import { endTyping, letPress } from "../shared/running.js";
import { talk } from "../shared/talk.js";
import { asked } from "./asked.js";
import { columnsOf } from "./columns.js";
import { ADDING, withAnother } from "./settings.js";
import { State } from "./state.js";
import { runningWords, summaryWords } from "./words.js";

function render({ model, el }) {
  const root = rootOf(el, "pw-compare"), note = element("div", "note");
  note.hidden = true;
  note.setAttribute("role", "alert");
  const say = (text) => { [note.textContent, note.hidden] = [text, !text]; };
  const page = talk(model, () => say(GONE)), state = new State(model, page, root, say);

  const question = asked(state), summary = element("span", "soft");
  const go = button("Generate all", "", generate, "go"), halt = button("Stop all", "", () => state.send("stop"));
  const add = button("+ column", ADDING, () => state.set({ columns: withAnother(state.get("columns")) }));
  const columns = columnsOf(state, add);
  const key = element("div", "soft small key", "The other columns are compared with the framed one. ≠ marks where a column first differs from it; underlined tokens are not in it.");
  summary.setAttribute("role", "status");
  root.append(
    element("div", "row", element("span", "title", "Comparison"), question.before), question.area,
    element("div", "row", go, halt, ...question.numbers, add, summary), note, columns.element, key,
  );

  function generate() {
    if (state.get("running")) return;
    endTyping(root);
    state.send("generate");
  }
  /** How far the texts are, and what differs in them. */
  function drawState() {
    const running = state.get("running"), { error } = state.told;
    letPress(go, halt, running);
    add.disabled = running;
    columns.drawMarks();
    summary.textContent = running ? runningWords(state.get("doing")) : summaryWords(columns.counts());
    root.dataset.state = running ? "running" : error ? "error" : columns.hasText() ? "ended" : "";
    say(error);
  }
  function drawColumns() {
    columns.draw();
    drawState();
  }

  function hear(message) {
    if (message.kind === "state") {
      if (String(state.told.models) !== String(message.models)) columns.clear();
      state.told = message;
      question.drawEarlier();
      drawColumns();
      columns.write();
      drawState();
      root.dataset.ready = "true";
    } else if (message.kind === "steps") {
      const column = columns.find(message.label);
      if (!column) return; // removed meanwhile
      if (!column.take(message.from, message.steps)) return state.send("want");
      state.told.statuses[message.label] = message.status;
      drawState();
    } else if (message.kind === "marks") {
      Object.assign(state.told, message);
      drawState();
    }
  }
  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) generate();
    else if (event.key === "Escape" && state.get("running")) state.send("stop");
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  state.on(["columns"], drawColumns);
  state.on(["reference", "running", "doing"], drawState);
  page.on("msg:custom", hear);
  return page.begin();
}

export default { render };
