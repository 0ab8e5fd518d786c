/**
 * A prompt matrix: one row per prompt, one column per setting and model; texts, ratings, notes.
 *
 * @typedef Model
 * @property {number} cell      the selected one, -1 for none
 * @property {boolean} running
 * @property {string} doing  what it does meanwhile, where a token takes long
 *
 * Messages to Python, besides those of all views:
 * {kind}: want, run, stop, {detail, cell}, {rate, cell, rating, note}; rating 0 takes it back.
 * Messages from Python: {kind: "state", template, variables, rows, columns, cells: [row, column, shown],
 * path, stale, done, failed, error}; {kind: "cell", cell, shown}; {kind: "more", cell, from, written:
 * [text, span]}; {kind: "progress", done, failed, error}; {kind: "detail", cell, system, prompt, python,
 * texts, cuts, pieces, logprobs, spans}, cuts: what a stop string cut off from each text, or [].
 */
import { GONE, button, element, rootOf } from "../shared/dom.js";
import { talk } from "../shared/talk.js";

const LIMITS = [0.8, 0.5, 0.2, 0.05]; // a token's class is the number of limits it stays below
const VARIABLE = /\\\{\{|\{\{\s*([^\W\d]|[\p{L}_])[\p{L}\p{N}_]*\s*\}\}/gu;
const HIDDEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff])/;
/** A text as nodes; signs that would be invisible or turn the direction of a line stand there by name. */
const visible = (text) => text.split(HIDDEN).map((part, place) => (place % 2 ? element("span", "control", `U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`) : part)).filter((part) => part !== "");
const shade = (logprob) => (logprob === null || logprob === undefined ? 0 : LIMITS.filter((limit) => Math.exp(logprob) < limit).length);

function render({ model, el }) {
  const root = rootOf(el, "pw-matrix");
  let state = { rows: [], columns: [], cells: [], done: 0, failed: 0 }, boxes = [], heads = [];

  const page = talk(model, () => { [warn.textContent, warn.hidden] = [GONE, false]; });
  const { send, set, on } = page;
  const go = button("", "", () => { if (!model.get("running")) send({ kind: "run" }); }, "go");
  const halt = button("Stop", "", () => send({ kind: "stop" }), "halt");
  const bar = element("progress"), summary = element("span", "soft"), warn = element("div", "warn"), hint = element("div", "hint");
  const template = element("div", "template"), frame = element("div", "frame"), detail = element("div", "detail");
  const file = element("span", "soft small");
  bar.setAttribute("aria-label", "cells done");
  summary.setAttribute("role", "status");
  warn.setAttribute("role", "alert");
  warn.hidden = hint.hidden = detail.hidden = true;
  root.append(element("div", "row", element("span", "title", "Prompt matrix"), file), template,
    element("div", "row", go, halt, bar, summary), warn, hint, frame, detail);

  // -- the grid: everything goes through text nodes -------------------------------------------------------

  function drawGrid() {
    let at = 0;
    template.replaceChildren();
    template.dir = "auto";
    for (const match of state.template.matchAll(VARIABLE)) {
      const name = match[0].startsWith("\\") ? null : match[0];
      template.append(...visible(state.template.slice(at, match.index)), name ? element("b", "", name) : "{{");
      at = match.index + match[0].length;
    }
    template.append(...visible(state.template.slice(at)));
    file.textContent = state.path ? `kept in ${state.path}` : "kept in memory only (no path given)";
    hint.hidden = !state.stale;
    hint.textContent = `The file also contains ${state.stale} cells of another template, setting or model; they are kept but not shown.`;
    const table = element("table"), names = element("col", "names");
    table.style.setProperty("--columns", state.columns.length);
    table.setAttribute("role", "grid");
    const head = element("tr", "", element("th", "soft", { 0: "prompt", 1: state.variables[0] }[state.variables.length] || "variables"));
    heads = state.columns.map((column) => {
      const mean = element("div", "soft small");
      const th = element("th", "", ...column.map((part, place) => element("div", place < column.length - 1 ? "soft" : "", part)), mean);
      th.scope = "col";
      head.append(th);
      return mean;
    });
    table.append(element("colgroup", "", names), element("thead", "", head));
    const body = element("tbody");
    const rows = state.rows.map((values) => {
      const th = element("th");
      th.scope = "row";
      for (const name of state.variables) {
        const value = element("span", "variable", ...visible(values[name]));
        value.dir = "auto";
        if (state.variables.length > 1) th.append(element("span", "soft small", name));
        th.append(value);
      }
      const tr = element("tr", "", th);
      body.append(tr);
      return tr;
    });
    boxes = state.cells.map(([row, column], place) => makeBox(place, row, column));
    state.cells.forEach(([row], place) => rows[row].append(boxes[place].node)); // of one row in order of columns
    table.append(body);
    frame.replaceChildren(table);
  }
  function drawState() {
    if (!boxes.length) drawGrid(); // once: a view keeps its matrix, and what is being typed outlives a later state
    state.cells.forEach(([, , shown], place) => {
      boxes[place].shown = shown;
      drawCell(place);
    });
    select();
    drawProgress();
  }
  function makeBox(place, row, column) {
    const node = element("td", "cell"), said = element("div", "said"), facts = element("div", "facts"), marks = element("div", "marks");
    const thinking = element("details"), thought = element("div", "thinking"), note = element("input");
    node.tabIndex = 0;
    node.setAttribute("role", "gridcell");
    said.dir = thought.dir = note.dir = "auto";
    thinking.append(element("summary", "", "thinking"), thought);
    const rating = element("span");
    rating.setAttribute("role", "radiogroup");
    rating.setAttribute("aria-label", `rating of cell ${place}`);
    const stars = [1, 2, 3, 4, 5].map((value) => {
      const star = button("☆", `${value} of 5`, (event) => { event.stopPropagation(); rate(place, value === boxes[place].shown.rating ? 0 : value); });
      star.title += "; click again or press 0 to remove the rating";
      star.setAttribute("role", "radio");
      rating.append(star);
      return star;
    });
    note.placeholder = "note";
    note.setAttribute("aria-label", `note on cell ${place}`);
    note.addEventListener("change", () => send({ kind: "rate", cell: place, note: note.value }));
    note.addEventListener("keydown", (event) => event.stopPropagation());
    marks.append(rating, note);
    node.append(thinking, said, facts, marks);
    node.addEventListener("click", () => choose(place));
    node.addEventListener("keydown", (event) => keyed(event, place, row, column));
    return { node, said, thinking, thought, facts, marks, note, stars, row, column, count: 0, thoughts: 0 };
  }
  function drawCell(place) {
    const box = boxes[place], shown = box.shown, { said, thought } = box;
    box.node.classList.toggle("running", shown.state === "running");
    box.node.classList.toggle("failed", shown.state === "error");
    box.node.dataset.state = shown.state;
    said.replaceChildren(...visible(shown.answer));
    thought.replaceChildren(...visible(shown.thinking));
    box.thinking.hidden = !shown.thinking;
    box.count = box.thoughts = 0;
    box.thinking.firstChild.textContent = "thinking";
    if (shown.state === "running") more(place, 0, shown.written);
    const facts = [];
    if (shown.state === "done") {
      facts.push(`${shown.tokens} tokens`);
      if (shown.logprob_mean !== null) facts.push(`mean log-probability ${shown.logprob_mean.toFixed(2).replace("-0.00", "0.00")}`);
      if (shown.seconds !== null) facts.push(`${shown.seconds.toFixed(1)} s`);
      facts.push(shown.reason);
    } else facts.push({ waiting: "waiting", running: "", error: shown.error }[shown.state]);
    box.facts.textContent = facts.join(" · ");
    box.marks.hidden = shown.state !== "done";
    box.stars.forEach((star, n) => {
      star.textContent = n < (shown.rating || 0) ? "★" : "☆";
      star.classList.toggle("under", n < (shown.rating || 0));
      star.setAttribute("aria-checked", String(n + 1 === shown.rating));
    });
    if (document.activeElement !== box.note) box.note.value = shown.note;
  }
  function more(place, from, written) {
    const box = boxes[place];
    if (!box || from > box.count) return send({ kind: "want" }); // something was missed
    written = written.slice(box.count - from); // the steps before came with everything
    const atEnd = box.said.scrollTop + box.said.clientHeight >= box.said.scrollHeight - 30;
    for (const [text, span] of written) (span === "thinking" ? box.thought : box.said).append(...visible(text));
    box.thoughts += written.filter(([, span]) => span === "thinking").length;
    if (box.thoughts) box.thinking.firstChild.textContent = `thinking, ${box.thoughts} token${box.thoughts === 1 ? "" : "s"}`; // folded, it is seen to go on
    box.thinking.hidden = !box.thought.textContent;
    box.count += written.length;
    if (atEnd) box.said.scrollTop = box.said.scrollHeight;
  }
  function drawProgress() {
    const running = model.get("running"), all = state.cells.length, left = all - state.done;
    go.textContent = left === all ? `Run ${all} cells` : left ? `Run the ${left} missing cells` : "All cells are done";
    go.disabled = running || !left;
    halt.disabled = !running;
    bar.max = Math.max(1, all);
    bar.value = state.done;
    const doing = ["generating", model.get("doing")].filter(Boolean).join(" · ");
    summary.textContent = `${running ? `${doing}: ` : ""}${state.done} of ${all} cells done${state.failed ? `, ${state.failed} failed` : ""}`;
    warn.textContent = state.error || "";
    warn.hidden = !state.error;
    root.dataset.state = running ? "running" : left ? "open" : "done";
    heads.forEach((mean, column) => {
      const ratings = boxes.filter((box) => box.column === column && box.shown.rating).map((box) => box.shown.rating);
      const sum = ratings.reduce((total, value) => total + value, 0);
      mean.textContent = ratings.length ? `★ ${(sum / ratings.length).toFixed(1)} (${ratings.length} rated)` : "";
    });
  }

  // -- the selected cell ------------------------------------------------------------------------------------

  const rate = (place, rating) => send({ kind: "rate", cell: place, rating });
  const choose = (place) => set({ cell: place });
  function keyed(event, place, row, column) {
    const moved = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (moved) {
      const next = boxes.findIndex((box) => box.row === row + moved[0] && box.column === column + moved[1]);
      if (next >= 0) choose(next), boxes[next].node.focus();
    } else if (/^[0-5]$/.test(event.key) && boxes[place].shown.state === "done") rate(place, Number(event.key));
    else if (event.key === "Enter" && event.target === boxes[place].node) choose(place);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  function select() {
    const place = model.get("cell");
    boxes.forEach((box, n) => box.node.setAttribute("aria-selected", String(n === place)));
    detail.hidden = !boxes[place];
    if (boxes[place]) send({ kind: "detail", cell: place });
  }
  function drawDetail(message) {
    if (message.cell !== model.get("cell") || !boxes[message.cell]) return;
    const box = boxes[message.cell], tokens = element("div", "tokens"), asked = element("div", "asked", ...visible(message.prompt));
    tokens.dir = asked.dir = "auto";
    message.texts.forEach((text, place) => {
      const logprob = message.logprobs[place], cut = message.cuts[place] || "", node = element("span", `token c${shade(logprob)}`, ...visible(text || (cut ? "" : message.pieces[place])));
      if (cut) node.append(element("s", "", ...visible(cut)));
      node.classList.toggle("quiet", !text && !cut);
      node.classList.toggle("thought", message.spans[place] === "thinking");
      node.title = logprob === null ? message.pieces[place] : `“${message.pieces[place]}” ${(100 * Math.exp(logprob)).toFixed(1)} %`;
      if (cut) node.title += ", cut off by the stop string";
      tokens.append(node);
    });
    const legend = element("div", "legend soft small", "A token's probability: ");
    ["80 % or more", "50", "20", "5", "less"].forEach((words, level) => legend.append(element("span", `c${level}`, words)));
    const code = element("textarea", "code"), said = element("span", "copied soft small");
    code.value = message.python;
    code.readOnly = code.hidden = true;
    code.rows = Math.min(24, message.python.split("\n").length);
    code.setAttribute("aria-label", "Python code that reproduces this text");
    said.setAttribute("aria-live", "polite");
    const copy = button("Copy as Python", "Copy as Python: a cell that reproduces this text", async () => {
      code.hidden = false;
      code.select();
      let copied = false;
      if (navigator.clipboard) copied = await navigator.clipboard.writeText(code.value).then(() => true, () => false); // not over http
      copied = copied || document.execCommand("copy");
      code.hidden = copied;
      if (copied) copy.focus();
      said.textContent = copied ? "copied" : "The browser blocks the clipboard. The code is selected: press Ctrl+C.";
    });
    copy.hidden = !message.python;
    const parts = [element("div", "row", element("b", "", `Cell ${message.cell}`), element("span", "soft", state.columns[box.column].join(" · ")), copy, said), code];
    if (message.system) {
      const system = element("div", "asked", ...visible(message.system));
      system.dir = "auto";
      parts.push(element("div", "soft small", "system"), system);
    }
    parts.push(element("div", "soft small", "prompt"), asked);
    if (message.texts.length) parts.push(tokens, legend);
    detail.replaceChildren(...parts);
    detail.dataset.cell = message.cell;
  }

  // -- hearing Python ---------------------------------------------------------------------------------------

  function hear(message) {
    if (message.kind === "state") {
      state = message;
      drawState();
      root.dataset.ready = "true";
    } else if (message.kind === "cell" && boxes[message.cell]) {
      boxes[message.cell].shown = message.shown;
      drawCell(message.cell);
      if (message.cell === model.get("cell")) send({ kind: "detail", cell: message.cell });
    } else if (message.kind === "more") more(message.cell, message.from, message.written);
    else if (message.kind === "progress") {
      Object.assign(state, { done: message.done, failed: message.failed, error: message.error });
      drawProgress();
    } else if (message.kind === "detail") drawDetail(message);
    else if (message.kind === "absent" && ["run", "rate"].includes(message.asked.kind)) {
      state.error = "This page has no kernel: cells cannot be run or rated here.";
      drawProgress();
    }
  }
  on("msg:custom", hear);
  on("change:running", drawProgress);
  on("change:doing", drawProgress);
  on("change:cell", select);
  return page.begin();
}

export default { render };
