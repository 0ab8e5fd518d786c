/**
 * The playground: a conversation or a text, settings, the streamed answer with what else could have
 * come, its branches, and what happened inside. Sections stand in the order of the screen.
 *
 * @typedef Model
 * @property {"chat"|"raw"} mode    whether the conversation or `text` is read
 * @property {string} system        the system prompt
 * @property {{role: string, content: string}[]} turns  earlier turns of the conversation
 * @property {string} prompt        its last user turn
 * @property {string} text          what the model reads, special tokens by name; an edit makes mode raw
 * @property {"slow"|"fast"|"auto"} thinking
 * @property {string} preset        name of the settings that are chosen, "" for one's own
 * @property {number} temperature
 * @property {number} top_p
 * @property {number} top_k
 * @property {number} min_p
 * @property {number} repetition_penalty
 * @property {[number, number][]} logit_bias  token id, what is added to its logit
 * @property {string[]} stop_strings
 * @property {number} max_new_tokens
 * @property {number} seed
 * @property {"none"|"probability"|"entropy"|"surprisal"} colour  of the tokens
 * @property {boolean} folded       whether thinking is folded
 * @property {number} token         selected token of the generation, -1 for none
 * @property {""|"routing"|"attention"|"compare"|"python"|"history"} panel  what is open below
 * @property {string|null} inside   reference of the widget in the panel
 * @property {boolean} running
 *
 * Messages to Python, besides those of all views:
 * {kind}: want, generate, stop, follow_up, undo, redo, compare, python, history;
 * {kind: "branch", place, token} or {kind: "branch", place, text}; {kind: "show" | "remove", node};
 * {kind: "rename", node, name}; {kind: "bias", text, value}; {kind: "save_preset", name};
 * {kind: "restore", entry}; {kind: "export", format}; {kind: "loaded", inside} for the id of a widget.
 * Messages from Python: {kind: "state", title, missing, usual, presets, count, special, context, bias, steps} and
 * with what {kind: "tree", nodes, current, undo, redo, status, error, made} holds; {kind: "steps", from, steps, status} with a step as {id, piece, text,
 * cut, logprob, entropy, span, others: [[id, piece, logprob, drawn_logprob | null, kept]]}, where those
 * that are there already may get another text and what a stop string cut off;
 * {kind: "count", count, special} with the special tokens' names that stand in the conversation; {kind: "bias", bias: [[id, piece | null, value]]}; {kind: "presets", presets};
 * {kind: "python", code, note}; {kind: "history", entries, note}; {kind: "file", name, content};
 * {kind: "status", status}; {kind: "note", text, bad};
 * {kind: "done", asked, text} for a bias or a preset that was taken.
 */
import { GONE, button, element, rootOf, spell } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { copied, quoted, whyRefused } from "../shared/values.js";


const surprisal = (step) => (step.logprob === null ? null : Math.abs(step.logprob / Math.LN2));
const BITS_OF = { probability: surprisal, surprisal, entropy: (step) => step.entropy };
// Where a class of colour begins, in bits, and how the legend says so.
const CLASSES = {
  probability: [[-Infinity, "90 % or more"], [0.152, "50–90 %"], [1, "20–50 %"], [2.322, "5–20 %"], [4.322, "under 5 %"]],
  surprisal: [[-Infinity, "under 0.5 bits"], [0.5, "0.5–1"], [1, "1–2"], [2, "2–4"], [4, "4 or more"]],
  entropy: [[-Infinity, "under 0.5 bits"], [0.5, "0.5–1"], [1, "1–2"], [2, "2–4"], [4, "4 or more"]],
};
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g; // controls, also of direction
const SILENCE = 5000; // milliseconds without a word from the kernel until the page says so
const BRIEF = 5; // alternatives shown while hovering; a click shows all
const PREVIEW = 24; // characters of a branch's text in the tree
const HIDDEN = { top_p: "top-p", top_k: "top-k", min_p: "min-p", repetition_penalty: "repetition penalty" }; // numbers under "more settings"
const PANELS = ["routing", "attention", "compare", "python", "history"];
const LABELS = { routing: "Routing", attention: "Attention", compare: "Compare", python: "Copy as Python", history: "History" };

// -- small tools --------------------------------------------------------------------------------------

const labelled = (text, control) => {
  control.setAttribute("aria-label", text); // a select's own label would hold all its options
  return element("label", "field", element("span", "", text), control);
};
const percent = (logprob) => {
  if (logprob === null || logprob === undefined) return "–";
  const share = 100 * Math.exp(logprob);
  return share > 0 && share < 0.05 ? "< 0.1 %" : `${share.toFixed(1)} %`;
};
const whole = (number) => Number(number).toLocaleString("en-US");
const shorten = (text, length) => ([...text].length > length ? `${[...text].slice(0, length).join("")}…` : text);
/** A piece as one can see it: quoted, white space by name. */
const visible = (piece) => `“${piece.replace(UNSEEN, (c) => ({ "\n": "\\n", "\t": "\\t" })[c] || `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`)}”`;
const escaped = (text) => text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n").replace(/\t/g, "\\t");
const unescaped = (text) => text.replace(/\\(\\|n|t)/g, (_, c) => ({ "\\": "\\", n: "\n", t: "\t" })[c]);

function render({ model, el, host, signal }) {
  const root = rootOf(el, "pw-play");
  const page = talk(model, () => say(`${GONE} What was generated is in History.`, true));
  const { set, on } = page;
  let heard = 0; // how often the kernel has told something
  const send = (kind, more) => {
    const before = heard;
    if (!page.send({ kind, ...more })) return;
    if (kind === "generate" || kind === "branch") setTimeout(() => { if (heard === before && !model.get("running")) say("The kernel does not answer. It may be busy with a cell: wait. Or it was restarted: then run this view's cell again.", true); }, SILENCE);
  };
  let state = { missing: {}, presets: [], nodes: [], bias: [], current: null, context: 0, count: null }, steps = [];

  // -- title ------------------------------------------------------------------------------------------

  const title = element("span", "title", "Playground"), about = element("span", "soft");
  const mode = element("select"), thinking = element("select");
  for (const [name, text] of [["chat", "conversation"], ["raw", "raw text"]]) mode.append(new Option(text, name));
  for (const [name, text] of [["slow", "slow: think first"], ["fast", "fast: answer at once"], ["auto", "adaptive"]]) thinking.append(new Option(text, name));
  mode.setAttribute("aria-label", "mode");
  thinking.setAttribute("aria-label", "thinking");
  mode.addEventListener("change", () => { sendTyped(); set({ mode: mode.value }); });
  thinking.addEventListener("change", () => { sendTyped(); set({ thinking: thinking.value }); });
  const thinkingLabel = element("label", "soft", "thinking ", thinking);
  root.append(element("div", "row", title, about, element("span", "push"), element("label", "soft", "mode ", mode), thinkingLabel));

  // -- what is asked ------------------------------------------------------------------------------------

  const typing = new Map(); // what was typed and not sent yet: trait → its text area
  let timer = 0;
  /** Send what is typed to Python, so that the templated text follows. */
  function sendTyped() {
    clearTimeout(timer);
    const values = {};
    for (const [name, read] of typing) values[name] = read();
    typing.clear();
    if (Object.keys(values).length) set(values);
  }
  const typed = (area, name, read) => {
    area.addEventListener("input", () => {
      typing.set(name, read);
      clearTimeout(timer);
      timer = setTimeout(sendTyped, 250);
    });
    area.addEventListener("change", sendTyped);
  };
  const writer = (label, placeholder, rows = 1) => {
    const area = element("textarea");
    area.rows = rows;
    area.placeholder = placeholder;
    area.spellcheck = false;
    area.dir = "auto";
    area.setAttribute("aria-label", label);
    return area;
  };
  const says = element("div", "says");
  const systemArea = writer("system prompt", "no system prompt"), area = writer("prompt", "Ask something. Ctrl+Enter generates, Escape stops.", 2), textArea = writer("what the model reads", "the text that the model goes on with", 2);
  typed(systemArea, "system", () => systemArea.value);
  typed(area, "prompt", () => area.value);
  typed(textArea, "text", () => textArea.value);
  const turnHolder = element("div");
  turnHolder.style.display = "contents";
  let turnParts = []; // per earlier turn: its role's select and its text area
  const turnsNow = () => turnParts.map(({ role, words }) => ({ role: role.value, content: words.value }));
  function drawTurns() {
    const turns = model.get("turns");
    if (JSON.stringify(turns) === JSON.stringify(turnsNow())) return;
    turnParts = turns.map((turn, place) => {
      const role = element("select"), words = writer(`turn ${place + 1}`, "");
      for (const name of ["user", "assistant", "tool", "function"]) role.append(new Option(name, name));
      role.value = turn.role;
      role.setAttribute("aria-label", `role of turn ${place + 1}`);
      words.value = turn.content;
      typed(words, "turns", turnsNow);
      role.addEventListener("change", () => set({ turns: turnsNow() }));
      const drop = button("×", `remove turn ${place + 1}`, () => set({ turns: turnsNow().filter((_, n) => n !== place) }), "bare");
      return { role, words, cells: [element("div", "who", role), element("div", "turn", words, drop)] };
    });
    turnHolder.replaceChildren(...turnParts.flatMap((part) => part.cells));
  }
  const addTurn = button("+ turn", "add an earlier turn to the conversation", () => {
    const turns = turnsNow();
    set({ turns: [...turns, { role: turns.at(-1)?.role === "user" ? "assistant" : "user", content: "" }] });
    turnParts.at(-1)?.words.focus();
  }, "bare small soft");
  const back = button("back to the conversation", "", () => set({ mode: "chat" }), "bare small");
  // What is typed is sent when a button is pressed: the buttons stay where they are, or miss their click.
  const readsWords = element("span"), readsNote = element("div", "small soft", readsWords, " ", back, addTurn);
  const readsWho = element("div", "who", "the model reads");
  const spelled = element("div", "small spelled"); // special tokens' names in the conversation
  const ask = element("div", "ask", area), reads = element("div", "reads", textArea, readsNote, spelled);
  const chatOnly = [element("div", "who", "system"), systemArea, turnHolder, element("div", "who", "user"), ask];
  says.append(...chatOnly.slice(0, 3), ...chatOnly.slice(3), readsWho, reads);
  root.append(says);
  function drawAsk() {
    const raw = model.get("mode") === "raw";
    for (const part of [chatOnly[0], systemArea, chatOnly[3], ask]) part.hidden = raw;
    turnHolder.style.display = raw ? "none" : "contents";
    addTurn.hidden = thinkingLabel.hidden = raw;
    back.hidden = !raw;
    follow.textContent = raw ? "Continue the text" : "Continue the conversation";
    says.classList.toggle("raw", raw);
    mode.value = model.get("mode");
    thinking.value = model.get("thinking");
    for (const [part, name] of [[systemArea, "system"], [area, "prompt"], [textArea, "text"]])
      if (!typing.has(name) && part.value !== model.get(name)) part.value = model.get(name);
    if (!typing.has("turns")) drawTurns();
    const tokens = state.count === null ? "" : `${whole(state.count)} tokens. `;
    const why = state.missing.text && !raw ? state.missing.text : raw ? "Raw text: names such as [unused9] are special tokens; the conversation does not count." : "An edit here switches to raw text.";
    textArea.readOnly = Boolean(state.missing.text && !raw);
    const names = raw ? [] : state.special || [], one = names.length === 1;
    spelled.hidden = !names.length;
    spelled.textContent = `${names.map(visible).join(", ")} in the conversation ${one ? "is" : "are"} read as plain characters, not as ${one ? "the special token" : "special tokens"} of that name. Once this text is edited (raw text), ${one ? "it is the special token" : "they are the special tokens"}.`;
    readsWords.textContent = `${tokens}${why}`;
  }

  // -- settings -----------------------------------------------------------------------------------------

  const refreshers = {}; // trait → what shows it
  const filled = new WeakMap(); // input → the value it shows: a redraw leaves what somebody is typing
  const fill = (input, value) => {
    if (filled.get(input) === value) return;
    filled.set(input, value);
    input.value = value;
  };
  const numberField = (name, label, step, low, high, help, off) => {
    const input = element("input");
    Object.assign(input, { type: "number", step, min: low, max: high });
    const show = () => {
      fill(input, model.get(name));
      input.disabled = Boolean(state.missing[name]) && model.get(name) === off;
      input.title = state.missing[name] || help;
    };
    input.addEventListener("change", () => {
      const value = Number(input.value), refused = step >= 1 ? whyRefused(label, input.value) : "";
      filled.delete(input);
      if (refused) say(refused, true);
      else if (input.value !== "" && Number.isFinite(value)) set({ [name]: value });
      show();
    });
    refreshers[name] = show;
    return labelled(label, input);
  };
  const preset = element("select");
  preset.addEventListener("change", () => set({ preset: preset.value }));
  refreshers.preset = () => {
    const now = model.get("preset"), names = new Set([...state.presets, ...(now ? [now] : [])]); // another notebook may have saved it
    preset.replaceChildren(new Option("own settings", ""), ...[...names].map((name) => new Option(name, name)));
    preset.value = now;
  };
  const moreToggle = button("", "", () => openMore(more.hidden), "bare small more-toggle");
  const fields = element("div", "fields", labelled("preset", preset),
    numberField("temperature", "temperature", 0.1, 0, undefined, "0 takes the most probable token every time"),
    numberField("max_new_tokens", "max tokens", 1, 1, undefined, "at most so many new tokens"),
    numberField("seed", "seed", 1, undefined, undefined, "the same seed, prompt and settings give the same text"), moreToggle);
  const stops = writer("stop strings, one a line", "one a line; \\n is a new line"), biasList = element("div"), biasForm = element("form", "row");
  stops.addEventListener("change", () => {
    filled.delete(stops);
    set({ stop_strings: stops.value.split("\n").filter(Boolean).map(unescaped) });
    refreshers.stop_strings();
  });
  refreshers.stop_strings = () => fill(stops, model.get("stop_strings").map(escaped).join("\n"));
  const biasText = element("input"), biasValue = element("input"), biasAdd = element("button", "", "add");
  biasText.size = 12;
  biasText.placeholder = 'id, text or "7"';
  biasText.title = 'A number is a token id. A bare word gets a space before it. In quotes stands a piece as the text shows it: "7" is the digit, "yes" a word without a space.';
  biasText.setAttribute("aria-label", "token to bias: its id, or its text (a number in quotes)");
  Object.assign(biasValue, { type: "number", step: 1, value: "-100" });
  biasValue.style.width = "5.5em";
  biasValue.setAttribute("aria-label", "what is added to its logit");
  biasForm.append(biasText, biasValue, biasAdd);
  biasForm.addEventListener("submit", (event) => {
    event.preventDefault();
    if (biasText.value) send("bias", { text: biasText.value, value: Number(biasValue.value) });
  });
  function drawBias() {
    biasList.replaceChildren(...state.bias.map(([id, piece, value]) => element("span", "chip", ...(piece === null ? [] : [element("span", "piece", visible(piece)), " "]), element("span", "soft small", `id ${id}`), ` ${value > 0 ? "+" : ""}${value}`,
      button("×", `no bias for ${piece ?? `id ${id}`}`, () => set({ logit_bias: model.get("logit_bias").filter(([other]) => other !== id) }), "bare"))));
  }
  const presetName = element("input"), presetForm = element("form", "row"), presetSave = element("button", "", "save");
  presetName.size = 14;
  presetName.placeholder = "name";
  presetName.setAttribute("aria-label", "name of a preset of one's own");
  presetForm.append(presetName, presetSave);
  presetForm.addEventListener("submit", (event) => {
    event.preventDefault();
    if (presetName.value.trim()) send("save_preset", { name: presetName.value.trim() });
  });
  const group = (text, ...parts) => element("div", "", element("div", "small soft", text), ...parts);
  const more = element("div", "more", element("div", "fields",
    numberField("top_p", "top-p", 0.05, 0, 1, "keep the most probable tokens that together reach this probability; 1 keeps all"),
    numberField("top_k", "top-k", 1, 0, undefined, "keep so many of the most probable tokens; 0 keeps all", 0),
    numberField("min_p", "min-p", 0.01, 0, 1, "keep tokens at least this share as probable as the best; 0 keeps all", 0),
    numberField("repetition_penalty", "repetition penalty", 0.05, 0, undefined, "above 1 makes tokens that were there less probable; 1 is off", 1)),
  element("div", "lists", group("stop strings", stops), group("logit bias", biasList, biasForm), group("save these settings as a preset", presetForm)));
  more.hidden = true;
  function openMore(open) {
    more.hidden = !open;
    moreToggle.setAttribute("aria-expanded", String(open));
    drawToggle();
  }
  /** While they are folded: what stands there besides the default, but for a preset's numbers. */
  function drawToggle() {
    const { usual } = state, words = [];
    if (usual && !model.get("preset")) for (const [name, label] of Object.entries(HIDDEN)) if (model.get(name) !== usual[name]) words.push(`${label} ${model.get(name)}`);
    for (const [name, one, several] of [["stop_strings", "stop string", "stop strings"], ["logit_bias", "logit bias", "logit biases"]]) {
      const count = model.get(name).length;
      if (count) words.push(`${count} ${count === 1 ? one : several}`);
    }
    moreToggle.textContent = more.hidden ? `more settings ▸ ${words.join(", ")}`.trim() : "fewer settings ▾";
  }
  for (const name of [...Object.keys(HIDDEN), "preset", "stop_strings", "logit_bias"]) on(`change:${name}`, drawToggle);
  openMore(false);
  root.append(element("div", "settings", fields, more));

  // -- run ----------------------------------------------------------------------------------------------

  const go = button("Generate", "", generate, "go"), halt = button("Stop", "", () => send("stop"), "halt"), follow = button("Continue the conversation", "", () => send("follow_up"));
  const status = element("span", "soft status"), used = element("span", "soft"), meter = element("span", "meter", element("i")), note = element("div", "note"), spoken = element("div", "spoken");
  go.title = "Ctrl+Enter";
  halt.title = "Escape";
  meter.setAttribute("role", "img");
  note.hidden = true;
  note.setAttribute("role", "alert");
  spoken.setAttribute("aria-live", "polite");
  root.append(element("div", "row run", go, halt, follow), element("div", "told", status, " ", used), note, spoken);
  function generate() {
    if (model.get("running")) return;
    const active = document.activeElement; // what is being typed has told no change yet
    if (root.contains(active) && active.matches("input, textarea")) active.dispatchEvent(new Event("change"));
    sendTyped();
    send("generate");
  }
  function say(text, bad) {
    note.textContent = text || "";
    note.hidden = !text;
    note.classList.toggle("bad", Boolean(bad));
  }
  /** Tokens, speed, context and memory; at the end also why it ended. */
  function drawStatus() {
    const now = state.status || {}, running = model.get("running"), parts = [];
    const active = document.activeElement; // a button that is disabled loses the keyboard, and with it Escape
    go.disabled = halt.disabled = false;
    if (running && active === go) halt.focus();
    if (!running && active === halt) go.focus();
    go.disabled = running;
    halt.disabled = !running;
    follow.disabled = running || !steps.length;
    said.classList.toggle("caret", running);
    if (now.tokens) parts.push(`${whole(now.tokens)} new tokens`);
    if (now.tokens && now.speed) parts.push(`${now.speed.toFixed(1)} tokens/s`);
    if (now.tokens && now.seconds) parts.push(`${now.seconds.toFixed(1)} s with reading the prompt`);
    if (now.memory_gb) parts.push(`memory ${now.memory_gb.toFixed(2)} GB`);
    else if (now.tokens && state.missing.memory) parts.push("memory: the server's");
    if (now.doing) parts.unshift(now.doing);
    if (now.reason && !running) parts.push(now.reason);
    status.textContent = parts.join(" · ");
    used.hidden = !now.used;
    used.replaceChildren(state.context ? `context ${whole(now.used || 0)} of ${whole(state.context)} ` : `context ${whole(now.used || 0)} tokens`, ...(state.context ? [meter] : []));
    meter.firstChild.style.width = `${Math.min(100, (100 * (now.used || 0)) / (state.context || 1))}%`;
    meter.setAttribute("aria-label", `context used: ${now.used || 0} of ${state.context} tokens`);
    root.dataset.state = running ? "running" : state.error ? "error" : now.finish || "";
    root.dataset.tokens = steps.length;
  }

  // -- output -------------------------------------------------------------------------------------------

  const colour = element("select"), legend = element("span", "legend small soft"), fold = element("input"), foldLabel = element("label", "soft", fold, " fold thinking");
  for (const name of ["none", "probability", "entropy", "surprisal"]) colour.append(new Option(name, name));
  colour.setAttribute("aria-label", "colour");
  colour.addEventListener("change", () => set({ colour: colour.value }));
  fold.type = "checkbox";
  fold.addEventListener("change", () => set({ folded: fold.checked }));
  const output = element("div", "output"), said = element("div", "said");
  said.dataset.empty = "The answer comes here, token by token. Point at a token, or move through them with the arrow keys, to see what else could have come.";
  said.setAttribute("role", "listbox");
  said.setAttribute("aria-label", "generated tokens; arrow keys move, Enter opens a token's alternatives");
  said.tabIndex = 0;
  output.append(said);
  let tokens = [], stretch = null, here = -1; // token elements, the stretch that is written, the token with the keyboard
  function classOf(step) {
    const name = model.get("colour");
    if (name === "none") return 0; // no colour
    const bits = BITS_OF[name](step);
    return bits === null ? 0 : CLASSES[name].findLastIndex(([start]) => bits >= start);
  }
  function drawLegend() {
    const name = model.get("colour");
    colour.value = name;
    for (const option of colour.options) [option.disabled, option.title] = [Boolean(state.missing[option.value]), state.missing[option.value] || ""];
    legend.replaceChildren(...(name === "none" ? [] : CLASSES[name].map(([, text], n) => element("span", n ? `c${n}` : "", text))), ...(steps.some((step) => step.given) ? [element("span", "given", "chosen by you")] : []), ...(steps.some((step) => step.cut) ? [element("span", "", element("s", "", "cut off by the stop string"))] : []));
  }
  function recolour() {
    drawLegend();
    tokens.forEach((node, place) => { node.classList.remove("c1", "c2", "c3", "c4"); const n = classOf(steps[place]); if (n) node.classList.add(`c${n}`); });
  }
  function drawFold() {
    const folded = model.get("folded");
    fold.checked = folded;
    foldLabel.hidden = !said.querySelector(".stretch.thinking");
    for (const part of said.querySelectorAll(".stretch.thinking")) {
      const count = part.querySelectorAll(".token").length;
      part.classList.toggle("folded", folded);
      part.firstChild.textContent = `thinking, ${count} token${count === 1 ? "" : "s"} ${folded ? "▸" : "▾"}`;
      part.firstChild.setAttribute("aria-expanded", String(!folded));
    }
  }
  function write(node, step) {
    spell(node, step);
    node.classList.toggle("breaks", step.text.includes("\n"));
  }
  /** Text that was held back is its own token's in the end, or was cut off. */
  function correct(from, known) {
    known.forEach((step, n) => {
      const old = steps[from + n];
      if (old.text === step.text && old.cut === step.cut) return;
      steps[from + n] = step;
      write(tokens[from + n], step);
    });
    drawLegend();
  }
  /** Write steps that are new; everything goes through textContent. */
  function append(fresh) {
    const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 30;
    for (const step of fresh) {
      if (stretch?.dataset.span !== step.span) {
        stretch = element("span", `stretch ${step.span}`);
        stretch.dataset.span = step.span;
        if (step.span === "thinking") stretch.append(button("thinking", "", () => set({ folded: !model.get("folded") })));
        said.append(stretch);
      }
      const node = element("span", "token");
      write(node, step);
      if (step.given) node.classList.add("given");
      const n = classOf(step);
      if (n) node.classList.add(`c${n}`);
      node.tabIndex = -1;
      node.setAttribute("role", "option");
      node.dataset.place = steps.length;
      steps.push(step);
      tokens.push(node);
      stretch.append(node);
    }
    drawFold();
    if (fresh.some((step) => step.given || step.cut)) drawLegend();
    if (atEnd) output.scrollTop = output.scrollHeight;
  }
  /** Text at the end that belongs to no token: a stop string might have begun there. */
  function drawTail() {
    said.querySelector(".tail")?.remove();
    if (state.status?.tail) said.append(element("span", "tail", state.status.tail));
  }
  function rewrite(fresh) {
    said.replaceChildren();
    [steps, tokens, stretch, here] = [[], [], null, -1];
    close();
    append(fresh);
    drawSelected();
  }
  function drawSelected() {
    const selected = model.get("token");
    tokens.forEach((node, place) => node.setAttribute("aria-selected", String(place === selected)));
  }

  // -- what else could have come: the popover -----------------------------------------------------------

  const popover = element("div", "popover");
  popover.hidden = true;
  popover.setAttribute("role", "dialog");
  popover.setAttribute("aria-label", "what else could have come");
  let open = -1, held = false, leaving = 0, quiet = false; // token of the popover; whether a click keeps it
  function explain(place, hold) {
    clearTimeout(leaving);
    if (open === place && held === hold && !popover.hidden) return;
    const step = steps[place], node = tokens[place], busy = model.get("running"), cannot = model.get("mode") === "chat" ? state.missing.chat_branches : "";
    tokens[open]?.classList.remove("looked");
    node.classList.add("looked");
    [open, held] = [place, hold];
    const bits = (value) => (value === null ? "unknown" : `${value.toFixed(2)} bits`);
    const facts = element("p", "", element("b", "piece", visible(step.piece)), ` ${percent(step.logprob)}`, element("div", "small soft", `surprisal ${bits(surprisal(step))} · entropy ${bits(step.entropy)} · token ${place}${step.id < 0 ? "" : `, id ${step.id}`}`));
    const body = element("tbody");
    const listed = hold ? step.others : step.others.filter(([id], n) => n < BRIEF || id === step.id);
    for (const [id, piece, logprob, drawn, kept] of listed) {
      const chosen = id === step.id, pick = button(visible(piece), "", () => branch({ place, token: id }));
      pick.disabled = busy || chosen || Boolean(cannot);
      pick.title = cannot || (chosen ? "this is the token that came" : "branch: go on from here with this token");
      const bar = element("span", "share", element("i"), element("b"));
      [logprob, drawn].forEach((value, n) => { bar.children[n].style.width = `${value === null ? 0 : 100 * Math.exp(value)}%`; });
      const row = element("tr", chosen ? "chosen" : kept ? "" : "cut", element("td", "", pick), element("td", "", percent(logprob)), element("td", "", state.missing.drawn ? "–" : kept ? percent(drawn) : "cut"), element("td", "", bar), element("td", "", chosen ? "chosen" : ""));
      body.append(row);
    }
    const head = element("tr", "", ...["instead", "before filters", "after", "", ""].map((text) => element("th", "", text)));
    const table = element("table", "", element("thead", "", head), body);
    const own = element("input"), form = element("form", "", own, element("button", "", "branch"));
    own.placeholder = "or write what should stand here";
    own.setAttribute("aria-label", "text to go on with from here");
    form.addEventListener("submit", (event) => { event.preventDefault(); if (own.value) branch({ place, text: own.value }); });
    form.hidden = busy || Boolean(cannot || state.missing.own_text) || !hold;
    const kept = !state.missing.drawn && listed.length && listed.every(([, , , drawn]) => drawn === null) ? "From the history, which keeps the likeliest and not what the filters left. " : "";
    const hint = element("p", "small soft", kept, cannot || (busy ? "To branch from here, stop the generation or let it end." : hold ? (step.others.length ? "Choose one to branch from here." : "") : "Choose one to branch from here; a click on the token shows more."));
    popover.replaceChildren(facts, step.others.length ? table : element("p", "soft", "The alternatives of this token were not kept."), hint, form);
    popover.hidden = false;
    placePopover();
  }
  /** Beside its token, within the widget: a cell cuts off what hangs out. */
  function placePopover() {
    const node = tokens[open];
    const home = root.getBoundingClientRect(), boxes = node.getClientRects(), box = boxes[boxes.length - 1] || home;
    popover.style.left = `${Math.max(4, Math.min(box.left - home.left, home.width - popover.offsetWidth - 4))}px`;
    const below = box.bottom - home.top + 3, above = box.top - home.top - popover.offsetHeight - 3;
    popover.style.top = `${below + popover.offsetHeight > home.height && above > 0 ? above : below}px`;
  }
  function close() {
    clearTimeout(leaving);
    tokens[open]?.classList.remove("looked");
    popover.hidden = true;
    [open, held] = [-1, false];
  }
  function branch(question) {
    if (model.get("running")) return;
    close();
    send("branch", question);
  }
  const leave = () => { if (!held) { clearTimeout(leaving); leaving = setTimeout(close, 220); } };
  const placeOf = (event) => Number(event.target.closest?.(".token")?.dataset.place ?? -1);
  said.addEventListener("pointerover", (event) => { const place = placeOf(event); if (place >= 0 && !held) explain(place, false); else if (place < 0) leave(); });
  said.addEventListener("pointerleave", leave);
  popover.addEventListener("pointerenter", () => clearTimeout(leaving));
  popover.addEventListener("pointerleave", leave);
  said.addEventListener("click", (event) => {
    const place = placeOf(event);
    if (place < 0) return;
    set({ token: place });
    close();
    explain(place, true);
    move(place, false);
  });
  root.addEventListener("pointerdown", (event) => { if (held && !popover.contains(event.target) && !said.contains(event.target)) close(); });
  /** Take the keyboard to a token. */
  function move(place, show = true) {
    if (!tokens.length) return;
    if (tokens[here]) tokens[here].tabIndex = -1;
    here = Math.max(0, Math.min(tokens.length - 1, place));
    if (tokens[here].closest(".folded")) set({ folded: false });
    tokens[here].tabIndex = 0;
    quiet = !show;
    tokens[here].focus();
    quiet = false;
    if (show) { close(); explain(here, false); }
  }
  said.addEventListener("keydown", (event) => {
    const from = here < 0 ? -1 : here, to = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (event.target.closest("button")) return;
    if (to !== undefined) move(to);
    else if ((event.key === "Enter" && !event.ctrlKey && !event.metaKey) || event.key === " " || event.key === "ArrowDown") {
      if (here < 0) move(0);
      set({ token: here });
      explain(here, true);
      (popover.querySelector("td button:not(:disabled)") || popover.querySelector("input"))?.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  said.addEventListener("focusin", (event) => { const place = placeOf(event); if (place >= 0 && !quiet && popover.hidden && event.target.matches(":focus-visible")) explain(place, false); });
  popover.addEventListener("keydown", (event) => {
    const all = [...popover.querySelectorAll("button:not(:disabled), input")], at = all.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    all[Math.max(0, Math.min(all.length - 1, at + step))]?.focus();
    event.preventDefault();
    event.stopPropagation();
  });

  // -- branches -----------------------------------------------------------------------------------------

  const treeList = element("ul"), unmake = button("undo", "undo the last change to the branches", () => send("undo"), "small"), remake = button("redo", "redo", () => send("redo"), "small");
  const tree = element("div", "tree", element("div", "row", element("b", "", "Branches"), unmake, remake), treeList);
  const two = element("div", "halves alone", element("div", "", element("div", "row", element("label", "soft", "colour ", colour), legend, foldLabel), output), tree);
  root.append(two, popover);
  let branches = new Map(); // id → its line, which stays as long as the branch: a click on it is not lost
  function drawTree() {
    const { nodes } = state, busy = model.get("running");
    tree.hidden = !nodes.length && !state.undo && !state.redo;
    two.classList.toggle("alone", tree.hidden);
    unmake.disabled = busy || !state.undo;
    remake.disabled = busy || !state.redo;
    const old = branches;
    branches = new Map(nodes.map(({ id }) => [id, old.get(id) || newBranch(id)]));
    for (const [id, { item }] of old) if (!branches.has(id)) item.remove();
    nodes.forEach((node, place) => {
      const { item, show } = branches.get(node.id);
      if (treeList.children[place] !== item) treeList.insertBefore(item, treeList.children[place] || null);
      show(node, busy);
    });
  }
  function newBranch(id) {
    let node;
    const words = document.createTextNode(""), begins = element("span", "soft small begins");
    const name = button("", "", () => send("show", { node: id }), "name");
    const rename = button("✎", "", () => {
      const input = element("input");
      input.value = node.name;
      input.setAttribute("aria-label", "name of the branch");
      let left = false;
      const done = (keep) => {
        if (left) return;
        left = true;
        if (keep && branches.has(id) && input.value.trim() && input.value !== node.name) send("rename", { node: id, name: input.value.trim() });
        input.replaceWith(name);
      };
      input.addEventListener("keydown", (event) => { if (["Enter", "Escape"].includes(event.key)) { event.stopPropagation(); done(event.key === "Enter"); } });
      input.addEventListener("blur", () => done(true));
      name.replaceWith(input);
      input.select();
    }, "icon"), drop = button("×", "", () => send("remove", { node: id }), "icon");
    name.append(words, " ", begins);
    const item = element("li", "", name, rename, drop);
    const show = (now, busy) => {
      node = now;
      words.data = node.name;
      begins.textContent = shorten(node.preview.replace(UNSEEN, " ").trim(), PREVIEW);
      for (const [part, label] of [[name, `${node.name}${node.at === null ? "" : `, from token ${node.at}`}: ${node.preview}`], [rename, `rename ${node.name}`], [drop, `remove ${node.name} and its branches`]]) {
        part.setAttribute("aria-label", label);
        part.title = label;
        part.disabled = busy;
      }
      item.classList.toggle("current", id === state.current);
      if (id === state.current) name.setAttribute("aria-current", "true");
      else name.removeAttribute("aria-current");
      item.style.setProperty("--depth", node.depth);
    };
    return { item, show };
  }

  // -- what is open below: inside, compared, as Python, earlier -------------------------------------------

  const bar = element("div", "row"), panel = element("div", "panel"), panelButtons = {};
  for (const name of PANELS) {
    panelButtons[name] = button(LABELS[name], "", () => { sendTyped(); set({ panel: model.get("panel") === name ? "" : name }); });
    bar.append(panelButtons[name]);
  }
  const panelNote = element("div", "small soft"), holder = element("div");
  const hold = (...parts) => holder.replaceChildren(element("div", "own", ...parts)); // these styles are not for the widgets inside
  root.append(element("div", "panels", bar, panelNote, panel));
  panel.append(holder);
  let shown = null, drawing = null; // the reference that is drawn, what ends its view
  function drawPanels() {
    const wanted = model.get("panel"), reasons = [];
    for (const name of PANELS) {
      const why = state.missing[name], empty = ["routing", "attention", "python"].includes(name) && !steps.length;
      panelButtons[name].disabled = Boolean(why) || empty;
      panelButtons[name].title = why || (empty ? "There is no text yet: generate one first." : "");
      panelButtons[name].setAttribute("aria-pressed", String(wanted === name));
      if (why && !reasons.includes(why)) reasons.push(why);
    }
    panelNote.textContent = reasons.join(" ");
    const inside = ["routing", "attention", "compare"].includes(wanted) ? model.get("inside") : null;
    if (inside !== shown || !inside) {
      drawing?.abort();
      shown = inside;
      const waits = ["routing", "attention", "python"].includes(wanted) && !inside && model.get("running");
      if (wanted !== "history" && (waits || wanted !== "python")) holder.replaceChildren(...(waits ? [element("p", "soft", `${LABELS[wanted]} opens as soon as the model has finished.`)] : []));
      if (inside && host) drawInside(inside);
    }
  }
  /** From now on a widget may be closed; it must not be while the page is loading it. */
  const loaded = (reference) => send("loaded", { inside: reference.split(":").pop() });
  async function drawInside(reference) {
    drawing = new AbortController();
    const child = await host.getWidget(reference).finally(() => loaded(reference)), place = element("div");
    if (reference !== shown) return;
    const anew = button("compare what is asked now", "begin the comparison again, with the prompt and the settings above", () => { sendTyped(); send("compare"); }, "small");
    holder.replaceChildren(...(model.get("panel") === "compare" ? [element("div", "own", element("div", "row", anew))] : []), place);
    await child.render({ el: place, signal: drawing.signal });
  }
  function drawPython({ code, note: words }) {
    const box = element("textarea", "code"), done = element("span", "soft small");
    box.value = code;
    box.readOnly = true;
    box.rows = Math.min(24, code.split("\n").length);
    box.setAttribute("aria-label", "Python that makes this text again");
    const copy = button("copy", "copy the code", async () => {
      box.select();
      let copied = false;
      if (navigator.clipboard) copied = await navigator.clipboard.writeText(code).then(() => true, () => false); // not over http
      copied = copied || document.execCommand("copy");
      done.textContent = copied ? "copied" : "This page may not use the clipboard: the code is selected, press Ctrl+C.";
    });
    hold(element("div", "row", copy, done, element("span", "soft small", words || "")), box);
  }
  function drawHistory({ entries, note: words }) {
    const head = element("tr", "", ...["when", "prompt", "thinking", "answer", "settings"].map((text) => element("th", "", text)));
    const rows = entries.map((entry) => element("tr", "", element("td", "", button(entry.when, `restore prompt, settings and text of ${entry.when}`, () => send("restore", { entry: entry.id })), element("div", "soft", entry.branch)), element("td", "", entry.prompt), element("td", "soft", entry.thinking), element("td", "", entry.answer), element("td", "soft", entry.settings)));
    const table = element("table", "", element("thead", "", head), element("tbody", "", ...rows));
    const exports = ["jsonl", "html"].map((format) => button(`export ${format.toUpperCase()}`, "", () => send("export", { format }), "small"));
    for (const part of exports) part.disabled = !entries.length;
    hold(element("div", "row", element("span", "soft small", words), element("span", "push"), ...exports), element("div", "scroll", table));
  }
  function saveFile({ name, content }) {
    const link = document.createElement("a"), address = URL.createObjectURL(new Blob([content]));
    Object.assign(link, { href: address, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  // -- hearing Python and the keyboard --------------------------------------------------------------------

  function hear(message) {
    const { kind } = message;
    heard += 1;
    if (kind === "state") {
      const fresh = message.steps;
      state = { ...message, steps: undefined };
      title.textContent = state.title;
      about.textContent = state.about || "";
      rewrite(fresh);
      drawAll();
      root.dataset.ready = "true";
    } else if (kind === "steps") {
      if (message.from > steps.length) return send("want"); // something was missed
      const there = steps.length - message.from;
      if (there) correct(message.from, message.steps.slice(0, there));
      append(message.steps.slice(there));
      state.status = message.status;
      drawStatus();
    } else if (kind === "count") { Object.assign(state, message); drawAsk(); }
    else if (kind === "bias") { state.bias = message.bias; drawBias(); }
    else if (kind === "presets") { state.presets = message.presets; refreshers.preset(); }
    else if (kind === "tree") {
      Object.assign(state, message);
      drawTail();
      drawStatus();
      drawTree();
      drawPanels();
      say(state.error || state.made, state.error);
      spoken.textContent = state.error || state.status.reason || "ended";
      drawOpen();
    } else if (kind === "status") { state.status = message.status; drawStatus(); }
    else if (kind === "note") {
      if (!message.bad) state.error = "";
      say(message.text, message.bad);
      drawStatus();
    }
    else if (kind === "done") {
      const field = { bias: biasText, save_preset: presetName }[message.asked];
      if (field.value.trim() === message.text.trim()) field.value = ""; // nothing else was typed meanwhile
    }
    else if (kind === "python" && model.get("panel") === "python") drawPython(message);
    else if (kind === "history" && model.get("panel") === "history") drawHistory(message);
    else if (kind === "file") saveFile(message);
  }
  function drawAll() {
    drawAsk();
    drawTail();
    say(state.error || state.made, state.error);
    for (const refresh of Object.values(refreshers)) refresh();
    drawBias();
    drawToggle();
    drawStatus();
    recolour();
    drawFold();
    drawTree();
    drawPanels();
    drawOpen();
  }
  /** Panels without a widget are asked for when they open. */
  function drawOpen() {
    const panel = model.get("panel");
    if (panel === "history" || (panel === "python" && !model.get("running"))) send(panel);
  }
  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      generate();
    } else if (event.key === "Escape" && model.get("running")) {
      send("stop");
    } else if (event.key === "Escape" && !popover.hidden) {
      const place = open;
      close();
      if (tokens[place] && root.contains(document.activeElement)) move(place, false);
    } else if (event.key === "Escape" && model.get("token") >= 0) {
      set({ token: -1 });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  for (const name of Object.keys(refreshers)) on(`change:${name}`, refreshers[name]);
  for (const name of ["mode", "system", "turns", "prompt", "text", "thinking"]) on(`change:${name}`, drawAsk);
  on("change:running", () => {
    heard += 1;
    if (model.get("running")) spoken.textContent = "generating";
    close();
    drawStatus();
    drawTree();
    drawPanels();
  });
  on("change:colour", recolour);
  on("change:folded", drawFold);
  on("change:token", drawSelected);
  on("change:panel", () => { drawPanels(); drawOpen(); });
  on("change:inside", () => {
    drawPanels();
    const reference = model.get("inside");
    if (reference && reference !== shown) loaded(reference); // its panel was left meanwhile
  });
  on("msg:custom", hear);
  const sized = new ResizeObserver(() => { if (!popover.hidden) placePopover(); });
  sized.observe(root);
  page.atEnd(() => { sized.disconnect(); drawing?.abort(); });
  return page.begin();
}

export default { render };
