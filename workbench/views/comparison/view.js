/**
 * One prompt, several columns: settings, models or precisions side by side, what differs marked.
 *
 * @typedef Model
 * @property {string} prompt
 * @property {"chat"|"raw"} mode
 * @property {Object[]} columns     label, model, thinking and the settings of each
 * @property {number} seed          of all columns
 * @property {number} max_new_tokens
 * @property {string[]} stop_strings
 * @property {number} reference     the column that the others are compared with
 * @property {boolean} running
 * @property {string} doing  what it does meanwhile, where a token takes long
 *
 * Messages to Python, besides those of all views: {kind}: want, generate, stop.
 * Messages from Python: {kind: "state", models, before, steps, statuses, weights, error,
 * differences, changed} with steps {label: [token]} as of the playground, statuses, weights (their
 * fingerprint; "" of a server) and differences also by label, and the labels of columns of which
 * something asked is no longer that of their text; {kind: "steps", label, from, steps, status};
 * {kind: "marks", error, differences: {label: [place]}, changed: [label]}.
 */
import { GONE, button, element, named, rootOf, spell } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { whyRefused } from "../shared/values.js";


const WARMER = 0.2; // a column that is added is not the same once more
/** @type {[string, number][]} */
const FIELDS = [["temperature", 0.1], ["top_p", 0.05], ["top_k", 1], ["min_p", 0.01], ["repetition_penalty", 0.05]];

function render({ model, el }) {
  const root = rootOf(el, "pw-compare");
  const page = talk(model, () => { [note.textContent, note.hidden] = [GONE, false]; });
  const { send, set, on } = page;
  let state = { models: [], before: 0, statuses: {} }, columns = [];

  // -- what is asked, and of all columns the same -------------------------------------------------------

  const area = element("textarea"), before = element("span", "soft small"), note = element("div", "note");
  area.dir = "auto";
  area.placeholder = "Ask something. Ctrl+Enter generates, Escape stops.";
  area.setAttribute("aria-label", "prompt to compare");
  area.addEventListener("change", () => set({ prompt: area.value }));
  const number = (name, label) => {
    const input = element("input");
    Object.assign(input, { type: "number", step: 1 });
    input.style.width = "7em";
    input.setAttribute("aria-label", label);
    input.addEventListener("change", () => {
      const refused = whyRefused(label, input.value);
      [note.textContent, note.hidden] = [refused, !refused];
      if (!refused && input.value !== "") set({ [name]: Number(input.value) });
      show();
    });
    const show = () => { input.value = model.get(name); };
    on(`change:${name}`, show);
    show();
    return element("label", "soft", `${label} `, input);
  };
  const go = button("Generate all", "", generate, "go"), halt = button("Stop all", "", () => send({ kind: "stop" }));
  const add = button("+ column", `add a column like the last, with the temperature ${WARMER} higher`, () => {
    const all = model.get("columns"), labels = all.map((column) => column.label);
    let count = all.length + 1;
    while (labels.includes(`column ${count}`)) count += 1;
    const last = all.at(-1), temperature = Number((last.temperature + WARMER).toFixed(6));
    set({ columns: [...all, { ...last, temperature, label: `column ${count}` }] });
  });
  const summary = element("span", "soft"), grid = element("div", "columns");
  const key = element("div", "soft small key", "The other columns are compared with the framed one. ≠ marks where a column first differs from it; underlined tokens are not in it.");
  note.hidden = true;
  note.setAttribute("role", "alert");
  summary.setAttribute("role", "status");
  root.append(element("div", "row", element("span", "title", "Comparison"), before), area, element("div", "row", go, halt, number("seed", "seed"), number("max_new_tokens", "max tokens"), add, summary), note, grid, key);
  function generate() {
    if (model.get("running")) return;
    const active = document.activeElement; // what is being typed has told no change yet
    if (root.contains(active) && active.matches("input, textarea")) active.dispatchEvent(new Event("change"));
    send({ kind: "generate" });
  }

  // -- columns --------------------------------------------------------------------------------------------

  const select = (options, call) => {
    const control = element("select");
    for (const option of options) control.append(new Option(option, option));
    control.addEventListener("change", () => call(control.value));
    return control;
  };
  const held = (byLabel, { label }) => (byLabel && Object.hasOwn(byLabel, label) ? byLabel[label] : undefined);
  /** A column keeps its box, also under another label: a click on it is not lost, nor the keyboard. */
  function drawColumns() {
    const settings = model.get("columns"), old = columns, inside = grid.contains(document.activeElement);
    columns = settings.map(({ label }) => old.find((column) => column.label === label));
    settings.forEach((_, place) => { columns[place] ??= settings.length === old.length && !columns.includes(old[place]) ? old[place] : newColumn(); });
    for (const column of old) if (!columns.includes(column)) column.box.remove();
    columns.forEach((column, place) => {
      if (grid.children[place] !== column.box) grid.insertBefore(column.box, grid.children[place] || null);
      column.show(settings[place], place);
    });
    if (inside && !grid.contains(document.activeElement)) add.focus();
    drawState();
  }
  const filled = new WeakMap(); // input → the value it shows: a redraw leaves what somebody is typing
  const fill = (input, value) => {
    if (filled.get(input) === value) return;
    filled.set(input, value);
    input.value = value;
  };
  function newColumn() {
    const name = element("input"), fields = element("div", "fields"), rest = element("div", "fields"), said = element("div", "said"), status = element("div", "soft small"), shows = [];
    const now = () => model.get("columns")[column.place], change = (values) => set({ columns: model.get("columns").map((other, n) => (n === column.place ? { ...other, ...values } : other)) });
    name.addEventListener("change", () => {
      filled.delete(name);
      const wanted = name.value.trim(), taken = model.get("columns").some(({ label }, n) => n !== column.place && label === wanted);
      if (wanted && !taken) change({ label: wanted });
      else fill(name, now().label);
    });
    const setting = (holder, trait, text, control, className) => {
      holder.append(element("label", `field ${className}`, element("span", "", text), control));
      shows.push((settings) => { fill(control, settings[trait]); named(control, `${text} of ${settings.label}`); });
    };
    const choose = (trait, options, className) => setting(fields, trait, trait, select(options, (value) => change({ [trait]: value })), className);
    if (state.models.length > 1) choose("model", state.models, "wide");
    choose("thinking", ["slow", "fast", "auto"], "chat-only");
    for (const [trait, step] of FIELDS) {
      const input = element("input"), words = trait.replace("_", trait === "repetition_penalty" ? " " : "-");
      Object.assign(input, { type: "number", step, min: 0 });
      input.addEventListener("change", () => {
        filled.delete(input);
        const refused = step === 1 ? whyRefused(words, input.value) : "";
        [note.textContent, note.hidden] = [refused, !refused];
        if (refused || input.value === "") fill(input, now()[trait]);
        else change({ [trait]: Number(input.value) });
      });
      setting(trait === "temperature" ? fields : rest, trait, words, input, "");
    }
    const more = element("details", "", element("summary", "soft small", "more settings"), rest);
    const base = button("compare with", "", () => set({ reference: column.place }), "small");
    const drop = button("×", "", () => set({ columns: model.get("columns").filter((_, n) => n !== column.place) }), "small");
    const box = element("div", "column", element("div", "head", name, base, drop), fields, more, said, status);
    const show = (settings, place) => {
      Object.assign(column, { label: settings.label, place });
      fill(name, settings.label);
      named(name, `label of column ${place + 1}`);
      named(base, `compare the others with ${settings.label}`);
      named(drop, `remove ${settings.label}`);
      shows.forEach((call) => call(settings));
    };
    const column = { show, box, said, status, base, inputs: [name, ...box.querySelectorAll(".fields input, .fields select"), drop], steps: [], tokens: [], stretch: null };
    return column;
  }
  /** Bring a column's text to these steps; what stands there already stays. */
  function write(column, steps) {
    if (column.steps.length > steps.length || column.steps.some(({ id, piece }, n) => steps[n].id !== id || steps[n].piece !== piece)) {
      Object.assign(column, { steps: [], tokens: [], stretch: null });
      column.said.replaceChildren();
    }
    take(column, 0, steps);
  }
  /** Steps from a place on: those that are there may have another text in the end, or are cut off. */
  function take(column, from, steps) {
    const there = column.steps.length - from;
    steps.slice(0, there).forEach((step, n) => {
      const old = column.steps[from + n];
      if (old.text === step.text && old.cut === step.cut) return;
      column.steps[from + n] = step;
      say(column.tokens[from + n], step);
    });
    append(column, steps.slice(there));
  }
  function say(node, step) {
    spell(node, step);
    node.title = `${step.logprob === null ? step.piece : `“${step.piece}” ${(100 * Math.exp(step.logprob)).toFixed(1)} %`}${step.cut ? ", cut off by the stop string" : ""}`;
  }
  /** Write steps that are new; everything goes through textContent. */
  function append(column, fresh) {
    const { said } = column, atEnd = said.scrollTop + said.clientHeight >= said.scrollHeight - 30;
    for (const step of fresh) {
      if (column.stretch?.dataset.span !== step.span) {
        column.stretch = element("span", `stretch ${step.span}`);
        column.stretch.dataset.span = step.span;
        said.append(column.stretch);
      }
      const node = element("span", "token");
      say(node, step);
      column.stretch.append(node);
      column.steps.push(step);
      column.tokens.push(node);
    }
    if (atEnd) said.scrollTop = said.scrollHeight;
  }

  // -- what differs ---------------------------------------------------------------------------------------

  /** What a token says: "<0x0A>" is a line break also where another vocabulary writes it so. */
  const content = ({ piece }) => piece.replace(/^<0x([0-7][0-9A-F])>$/, (_, code) => String.fromCharCode(parseInt(code, 16)));
  /** Where a column first differs from the one of reference; while they grow, as far as both have come. */
  function firstDifference(column, base) {
    const both = Math.min(column.steps.length, base.steps.length), weights = held(state.weights, column);
    const token = weights && weights === held(state.weights, base) ? ({ id }) => id : content; // an id of other weights may mean another token
    for (let place = 0; place < both; place++) if (token(column.steps[place]) !== token(base.steps[place])) return place;
    return model.get("running") || column.steps.length === base.steps.length ? -1 : both;
  }
  function drawState() {
    const running = model.get("running"), base = columns[model.get("reference")] || columns[0], same = [];
    const active = document.activeElement; // a button that is disabled loses the keyboard, and with it Escape
    go.disabled = halt.disabled = false;
    if (running && active === go) halt.focus();
    if (!running && active === halt) go.focus();
    go.disabled = add.disabled = running;
    halt.disabled = !running;
    columns.forEach((column, place) => {
      column.box.classList.toggle("base", column === base);
      column.base.disabled = column === base;
      for (const input of column.inputs) input.disabled = running || (input.textContent === "×" && columns.length < 2);
      const parts = column === base ? -1 : firstDifference(column, base), now = held(state.statuses, column) || {};
      if (column.parts !== parts) column.tokens[column.parts]?.classList.remove("parts");
      column.parts = parts;
      column.tokens[parts]?.classList.add("parts");
      const others = new Set((!running && held(state.differences, column)) || []);
      column.tokens.forEach((node, n) => node.classList.toggle("other", others.has(n)));
      const words = [];
      if (column.steps.length) words.push(`${column.steps.length} tokens`);
      if (now.reason && !running) words.push(now.reason);
      const shorter = parts === column.steps.length, alike = running ? "the same so far" : "the same";
      if (column !== base && column.steps.length) words.push(parts < 0 ? alike : shorter ? `the same, but ends at token ${parts}` : `differs from token ${parts}`);
      if (!running && state.changed?.includes(column.label)) words.push("prompt or settings have changed since");
      column.status.textContent = words.join(" · ");
      if (column !== base && column.steps.length && parts < 0) same.push(place);
    });
    const others = columns.filter((column) => column !== base && column.steps.length).length;
    summary.textContent = running ? ["generating", model.get("doing")].filter(Boolean).join(" · ") : !base?.steps.length || !others ? "" : `${same.length} of ${others} the same as ${model.get("columns")[columns.indexOf(base)].label}`;
    root.dataset.state = running ? "running" : state.error ? "error" : base?.steps.length ? "ended" : "";
    note.textContent = state.error || "";
    note.hidden = !state.error;
  }

  // -- hearing Python and the keyboard ----------------------------------------------------------------------

  function hear(message) {
    if (message.kind === "state") {
      if (String(state.models) !== String(message.models)) columns.splice(0).forEach((column) => column.box.remove());
      state = message;
      before.textContent = state.before ? `after ${state.before} earlier turn${state.before === 1 ? "" : "s"} of the conversation` : "";
      drawColumns();
      columns.forEach((column) => write(column, held(state.steps, column) || []));
      drawState();
      root.dataset.ready = "true";
    } else if (message.kind === "steps") {
      const column = columns.find(({ label }) => label === message.label);
      if (!column) return; // removed meanwhile
      if (message.from > column.steps.length) return send({ kind: "want" }); // something was missed
      take(column, message.from, message.steps);
      state.statuses[message.label] = message.status;
      drawState();
    } else if (message.kind === "marks") {
      Object.assign(state, message);
      drawState();
    }
  }
  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) generate();
    else if (event.key === "Escape" && model.get("running")) send({ kind: "stop" });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const drawPrompt = () => { area.value = model.get("prompt"); };
  const drawMode = () => {
    area.placeholder = model.get("mode") === "raw" ? "The text for the model to continue." : area.placeholder;
    root.classList.toggle("raw", model.get("mode") === "raw");
    before.title = model.get("stop_strings").length ? `stop strings: ${model.get("stop_strings").join(", ")}` : "";
  };
  drawPrompt();
  drawMode();
  on("change:prompt", drawPrompt);
  for (const name of ["mode", "stop_strings"]) on(`change:${name}`, drawMode);
  on("change:columns", drawColumns);
  for (const name of ["reference", "running", "doing"]) on(`change:${name}`, drawState);
  on("msg:custom", hear);
  return page.begin();
}

export default { render };
