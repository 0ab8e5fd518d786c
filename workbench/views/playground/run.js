/** Generate, Stop and Continue, and below them how the answer comes and how full the context is. */
import { button, element } from "../shared/dom.js";
import { endTyping, letPress } from "../shared/running.js";
import { contextWords, statusWords } from "./words.js";

/** @param {import("./state.js").State} state */
export function run(state) {
  const go = button("Generate", "", generate, "go"), halt = button("Stop", "", stop, "halt");
  const follow = button("Continue the conversation", "", () => state.send("follow_up"));
  const status = element("span", "soft status"), used = element("span", "soft"), bar = element("i"), meter = element("span", "meter", bar);
  go.title = "Ctrl+Enter";
  halt.title = "Escape";
  meter.setAttribute("role", "img");

  function generate() {
    if (state.get("running")) return;
    endTyping(state.root);
    state.typing.send();
    state.send("generate");
  }
  function stop() { state.send("stop"); }

  function draw() {
    const { status: now, missing, error } = state.told, running = state.get("running");
    letPress(go, halt, running);
    follow.disabled = running || !state.steps.length;
    status.textContent = statusWords(now, running, Boolean(missing.memory));
    drawContext(now.used || 0);
    state.root.dataset.state = running ? "running" : error ? "error" : now.finish || "";
    state.root.dataset.tokens = String(state.steps.length);
  }
  /** @param {number} tokens */
  function drawContext(tokens) {
    const { context } = state.told;
    used.hidden = !tokens;
    used.replaceChildren(contextWords(tokens, context), ...(context ? [meter] : []));
    bar.style.width = `${Math.min(100, (100 * tokens) / (context || 1))}%`;
    meter.setAttribute("aria-label", `context used: ${tokens} of ${context} tokens`);
  }
  function drawMode() { follow.textContent = state.get("mode") === "raw" ? "Continue the text" : "Continue the conversation"; }

  state.on(["mode"], drawMode);
  const elements = [element("div", "row run", go, halt, follow), element("div", "told", status, " ", used)];
  return { elements, draw, drawMode, generate, stop };
}
