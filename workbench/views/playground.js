/**
 * Prompt, settings, streamed text; every generated token tells what else could have come.
 *
 * @typedef Model
 * @property {string} prompt
 * @property {"chat"|"raw"} mode
 * @property {"slow"|"fast"|"auto"} thinking
 * @property {number} temperature
 * @property {number} top_p
 * @property {number} top_k
 * @property {number} seed
 * @property {number} max_new_tokens
 * @property {boolean} running
 *
 * Messages to Python: {kind: "want"}, {kind: "generate"}, {kind: "stop"}.
 * Messages from Python: {kind: "replay", model, messages}, {kind: "start"},
 * {kind: "step", piece, text, logprob, span, alternatives: [{piece, logprob, kept, chosen}]},
 * {kind: "end", reason, tokens, seconds}, {kind: "error", text}.
 */

const CSS = `
.pw-play { color: var(--jp-ui-font-color1, #1f1f1f); font: 13px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); padding: 4px; max-width: 900px; position: relative; }
.pw-play textarea { width: 100%; box-sizing: border-box; min-height: 4.5em; resize: vertical; font: inherit; padding: 6px; color: inherit; background: var(--jp-layout-color0, #fff); border: 1px solid var(--jp-border-color1, #bbb); border-radius: 4px; }
.pw-play .row { display: flex; gap: 12px; flex-wrap: wrap; align-items: center; margin: 6px 0; }
.pw-play input { width: 5em; color: inherit; background: var(--jp-layout-color0, #fff); border: 1px solid var(--jp-border-color1, #bbb); border-radius: 3px; padding: 2px 4px; }
.pw-play button.act { padding: 4px 14px; border-radius: 4px; border: 1px solid var(--jp-brand-color1, #1976d2); cursor: pointer; font: inherit; }
.pw-play button.go { background: var(--jp-brand-color1, #1976d2); color: #fff; }
.pw-play button.halt { background: transparent; color: inherit; }
.pw-play button:disabled { opacity: .45; cursor: default; }
.pw-play .output { white-space: pre-wrap; overflow-wrap: anywhere; font-family: var(--jp-code-font-family, monospace); border: 1px solid var(--jp-border-color2, #ccc); border-radius: 4px; padding: 8px; min-height: 4em; line-height: 1.8; }
.pw-play .step { border-radius: 2px; cursor: help; }
.pw-play .step:hover, .pw-play .step:focus { background: var(--jp-layout-color3, #ddd); outline: none; }
.pw-play .step.thinking { border-bottom: 2px dotted currentColor; opacity: .8; font-style: italic; }
.pw-play .step.quiet { font-size: 10px; opacity: .6; }
.pw-play .label { font-size: 11px; border: 1px solid currentColor; border-radius: 8px; padding: 0 6px; margin-right: 4px; opacity: .75; }
.pw-play .status { min-height: 1.5em; color: var(--jp-ui-font-color2, #616161); }
.pw-play .error { color: var(--jp-error-color1, #b71c1c); font-weight: bold; }
.pw-play .popover { position: absolute; z-index: 10; background: var(--jp-layout-color1, #fff); border: 1px solid var(--jp-border-color1, #999); border-radius: 4px; box-shadow: 0 2px 8px #0004; padding: 6px 8px; pointer-events: none; }
.pw-play .popover td { padding: 0 8px 0 0; white-space: pre; font-variant-numeric: tabular-nums; }
.pw-play .meter { display: inline-block; height: 8px; background: var(--jp-brand-color1, #1976d2); }
`;

const element = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const REASONS = { eos: "the model ended its turn", length: "token limit reached", context: "the model's context is full", stopped: "stopped" };

function render({ model, el }) {
  const root = element("div", "pw-play");
  root.append(element("style", "", CSS));
  el.append(root);
  const title = element("b", "title", "Playground");
  const area = document.createElement("textarea");
  area.setAttribute("aria-label", "prompt");
  area.placeholder = "Type a prompt. Ctrl+Enter generates, Escape stops.";
  const settings = element("div", "row");
  const choice = (label, options, read, write, on) => {
    const holder = element("label", "", `${label} `);
    const select = document.createElement("select");
    for (const option of options) select.append(new Option(option, option));
    const refresh = () => { select.value = read(); };
    select.addEventListener("change", () => { write(select.value); model.save_changes(); });
    on(refresh);
    refresh();
    holder.append(select);
    settings.append(holder);
  };
  const number = (label, step, read, write, on) => {
    const holder = element("label", "", `${label} `);
    const input = document.createElement("input");
    input.type = "number";
    input.step = step;
    const refresh = () => { input.value = read(); };
    input.addEventListener("change", () => { if (input.value !== "" && Number.isFinite(Number(input.value))) write(Number(input.value)); else refresh(); model.save_changes(); });
    on(refresh);
    refresh();
    holder.append(input);
    settings.append(holder);
  };
  const undo = [];
  const on = (name, call) => { model.on(name, call); undo.push(() => model.off(name, call)); };
  choice("mode", ["chat", "raw"], () => model.get("mode"), (v) => model.set("mode", v), (call) => on("change:mode", call));
  choice("thinking", ["slow", "fast", "auto"], () => model.get("thinking"), (v) => model.set("thinking", v), (call) => on("change:thinking", call));
  number("temperature", 0.1, () => model.get("temperature"), (v) => model.set("temperature", v), (call) => on("change:temperature", call));
  number("top-p", 0.05, () => model.get("top_p"), (v) => model.set("top_p", v), (call) => on("change:top_p", call));
  number("top-k", 1, () => model.get("top_k"), (v) => model.set("top_k", Math.round(v)), (call) => on("change:top_k", call));
  number("seed", 1, () => model.get("seed"), (v) => model.set("seed", Math.round(v)), (call) => on("change:seed", call));
  number("tokens", 1, () => model.get("max_new_tokens"), (v) => model.set("max_new_tokens", Math.round(v)), (call) => on("change:max_new_tokens", call));
  const buttons = element("div", "row");
  const go = element("button", "act go", "Generate");
  const halt = element("button", "act halt", "Stop");
  const status = element("span", "status");
  status.setAttribute("role", "status");
  buttons.append(go, halt, status);
  const output = element("div", "output");
  output.setAttribute("aria-label", "generated text; hover a token or move to it with Tab for its alternatives");
  const popover = element("div", "popover");
  popover.hidden = true;
  root.append(title, area, settings, buttons, output, popover);
  let count = 0, lastSpan = "", began = 0;

  const percent = (logprob) => `${(100 * Math.exp(logprob)).toFixed(1)} %`;
  function explain(node, step) {
    const table = element("table");
    for (const other of step.alternatives) {
      const row = element("tr");
      const bar = element("td");
      const meter = element("span", "meter");
      meter.style.width = `${Math.max(1, 90 * Math.exp(other.logprob))}px`;
      bar.append(meter);
      row.append(element("td", "", JSON.stringify(other.piece)), element("td", "", percent(other.logprob)), bar,
        element("td", "", other.chosen ? "chosen" : other.kept ? "" : "cut by sampling"));
      table.append(row);
    }
    popover.replaceChildren(element("div", "", `${JSON.stringify(step.piece)}: ${percent(step.logprob)} before sampling settings`), table);
    popover.hidden = false;
    const box = node.getBoundingClientRect(), home = root.getBoundingClientRect();
    popover.style.left = `${Math.max(0, Math.min(box.left - home.left, home.width - popover.offsetWidth))}px`;
    popover.style.top = `${box.bottom - home.top + 4}px`;
  }
  const hide = () => { popover.hidden = true; };

  function add(step) {
    if (step.span !== lastSpan) {
      output.append(element("span", "label", step.span));
      lastSpan = step.span;
    }
    const node = element("span", `step ${step.span}`, step.text || step.piece);
    if (!step.text) node.classList.add("quiet");
    node.tabIndex = 0;
    for (const name of ["mouseenter", "focus"]) node.addEventListener(name, () => explain(node, step));
    for (const name of ["mouseleave", "blur"]) node.addEventListener(name, hide);
    output.append(node);
    count += 1;
  }
  function hear(message) {
    if (message.kind === "replay") {
      title.textContent = `Playground: ${message.model}`;
      clear();
      message.messages.forEach(hear);
      root.dataset.ready = "true";
    } else if (message.kind === "start") {
      clear();
      began = performance.now();
      root.dataset.state = "running";
      status.textContent = "reading the prompt…";
    } else if (message.kind === "step") {
      add(message);
      status.textContent = `${count} tokens, ${(count / Math.max(1e-3, (performance.now() - began) / 1000)).toFixed(1)} a second`;
    } else if (message.kind === "end") {
      status.textContent = `${message.tokens} tokens in ${message.seconds.toFixed(1)} s (${(message.tokens / Math.max(1e-3, message.seconds)).toFixed(1)} a second): ${REASONS[message.reason]}`;
      root.dataset.state = message.reason;
    } else if (message.kind === "error") {
      status.textContent = message.text;
      status.classList.add("error");
      root.dataset.state = "error";
    }
  }
  function clear() {
    output.replaceChildren();
    hide();
    status.textContent = "";
    status.classList.remove("error");
    count = 0;
    lastSpan = "";
  }
  const state = () => {
    go.disabled = model.get("running");
    halt.disabled = !model.get("running");
  };
  function generate() {
    if (model.get("running")) return;
    model.set("prompt", area.value);
    model.save_changes();
    model.send({ kind: "generate" });
  }
  const stop = () => model.send({ kind: "stop" });
  go.addEventListener("click", generate);
  halt.addEventListener("click", stop);
  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      event.stopPropagation();
      generate();
    }
    if (event.key === "Escape" && model.get("running")) {
      event.stopPropagation();
      stop();
    }
  });
  area.addEventListener("change", () => { model.set("prompt", area.value); model.save_changes(); });
  const refresh = () => { area.value = model.get("prompt"); };
  refresh();
  state();
  on("change:prompt", refresh);
  on("change:running", state);
  on("msg:custom", hear);
  model.send({ kind: "want" });
  return () => undo.forEach((call) => call());
}

export default { render };
