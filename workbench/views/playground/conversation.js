/** What is asked: a conversation, or the text that the model reads, which follows from it until somebody edits it. */
import { button, element } from "../shared/dom.js";
import { writer } from "./fields.js";
import { readsWords, spelledWords } from "./words.js";

/** @typedef {import("./state.js").State} State */

const ROLES = ["user", "assistant", "tool", "function"];

/** @param {State} state */
export function conversation(state) {
  const mode = choice("mode", [["chat", "conversation"], ["raw", "raw text"]], () => state.set({ mode: mode.value }));
  const thinking = choice(
    "thinking", [["slow", "slow: think first"], ["fast", "fast: answer at once"], ["auto", "adaptive"]], () => state.set({ thinking: thinking.value }),
  );
  const modeLabel = element("label", "soft", "mode ", mode), thinkingLabel = element("label", "soft", "thinking ", thinking);

  function choice(label, options, choose) {
    const select = element("select");
    for (const [name, text] of options) select.append(new Option(text, name));
    select.setAttribute("aria-label", label);
    select.addEventListener("change", () => { state.typing.send(); choose(); });
    return select;
  }

  const system = writer("system prompt", "no system prompt");
  const prompt = writer("prompt", "Ask something. Ctrl+Enter generates, Escape stops.", 2);
  const text = writer("what the model reads", "the text for the model to continue", 2);
  const areas = /** @type {const} */ ([["system", system], ["prompt", prompt], ["text", text]]);
  for (const [trait, area] of areas) state.typing.watch(area, trait, () => area.value);

  const turns = earlierTurns(state);
  const systemWho = element("div", "who", "system"), userWho = element("div", "who", "user"), ask = element("div", "ask", prompt);
  // What is typed is sent when a button is pressed: the buttons stay where they are, or miss their click.
  const words = element("span"), back = button("back to the conversation", "", () => state.set({ mode: "chat" }), "bare small");
  const add = button("+ turn", "add an earlier turn to the conversation", turns.add, "bare small soft");
  const spelled = element("div", "small spelled"); // special tokens' names in the conversation
  const reads = element("div", "reads", text, element("div", "small soft", words, " ", back, add), spelled);
  const says = element(
    "div", "says", systemWho, system, turns.element, userWho, ask, element("div", "who", "the model reads"), reads,
  );

  function draw() {
    const raw = state.get("mode") === "raw", { missing, count, special } = state.told;
    for (const part of [systemWho, system, userWho, ask]) part.hidden = raw;
    turns.element.style.display = raw ? "none" : "contents";
    add.hidden = thinkingLabel.hidden = raw;
    back.hidden = !raw;
    says.classList.toggle("raw", raw);
    mode.value = state.get("mode");
    thinking.value = state.get("thinking");
    for (const [trait, area] of areas) if (!state.typing.has(trait) && area.value !== state.get(trait)) area.value = state.get(trait);
    if (!state.typing.has("turns")) turns.draw();
    text.readOnly = Boolean(missing.text && !raw);
    words.textContent = readsWords({ count, raw, missing: missing.text });
    const names = raw ? [] : special;
    spelled.hidden = !names.length;
    spelled.textContent = spelledWords(names);
  }

  return { choices: [modeLabel, thinkingLabel], element: says, draw };
}

/** The turns between the system prompt and the last question: roles and texts, which can be added and removed. @param {State} state */
function earlierTurns(state) {
  const holder = element("div");
  holder.style.display = "contents";
  /** @type {{role: HTMLSelectElement, words: HTMLTextAreaElement, cells: HTMLElement[]}[]} */
  let parts = [];
  const now = () => parts.map(({ role, words }) => ({ role: role.value, content: words.value }));

  /** @param {import("./state.js").Model["turns"][number]} turn @param {number} place */
  function part(turn, place) {
    const role = element("select"), words = writer(`turn ${place + 1}`, "");
    for (const name of ROLES) role.append(new Option(name, name));
    role.value = turn.role;
    role.setAttribute("aria-label", `role of turn ${place + 1}`);
    words.value = turn.content;
    state.typing.watch(words, "turns", now);
    role.addEventListener("change", () => state.set({ turns: now() }));
    const drop = button("×", `remove turn ${place + 1}`, () => state.set({ turns: now().filter((_, n) => n !== place) }), "bare");
    return { role, words, cells: [element("div", "who", role), element("div", "turn", words, drop)] };
  }
  function draw() {
    const turns = state.get("turns");
    if (JSON.stringify(turns) === JSON.stringify(now())) return;
    parts = turns.map(part);
    holder.replaceChildren(...parts.flatMap(({ cells }) => cells));
  }
  function add() {
    const turns = now();
    state.set({ turns: [...turns, { role: turns.at(-1)?.role === "user" ? "assistant" : "user", content: "" }] });
    parts.at(-1)?.words.focus();
  }
  return { element: holder, draw, add };
}
