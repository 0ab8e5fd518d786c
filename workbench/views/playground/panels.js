/** What is open below the answer: a widget that shows what happened inside or compares, Python, or the history. */
import { button, element } from "../shared/dom.js";
import { copyPanel } from "./copy.js";
import { historyPanel } from "./history.js";
import { widgetInside } from "./inside.js";

/** @typedef {import("./state.js").State} State */

const LABELS = { routing: "Routing", attention: "Attention", compare: "Compare", python: "Copy as Python", history: "History" };
const OF_A_TEXT = ["routing", "attention", "python"]; // they need one
const WITH_WIDGET = ["routing", "attention", "compare"];

/** @param {State} state @param {import("./inside.js").Host|undefined} host  which a saved page lacks */
export function panels(state, host) {
  const bar = element("div", "row"), note = element("div", "small soft"), holder = element("div");
  const inside = widgetInside(state, host, holder);
  /** @type {[string, HTMLButtonElement][]} */
  const buttons = Object.entries(LABELS).map(([name, label]) => [name, button(label, "", () => press(name))]);
  bar.append(...buttons.map(([, control]) => control));

  function press(name) {
    state.typing.send();
    state.set({ panel: state.get("panel") === name ? "" : name });
  }
  function drawButtons() {
    const wanted = state.get("panel"), reasons = new Set();
    for (const [name, control] of buttons) {
      const why = state.told.missing[name], empty = OF_A_TEXT.includes(name) && !state.steps.length;
      control.disabled = Boolean(why) || empty;
      control.title = why || (empty ? "There is no text yet: generate one first." : "");
      control.setAttribute("aria-pressed", String(wanted === name));
      if (why) reasons.add(why);
    }
    note.textContent = [...reasons].join(" ");
  }
  function draw() {
    drawButtons();
    const wanted = state.get("panel"), widget = WITH_WIDGET.includes(wanted) ? state.get("inside") : null;
    if (widget && widget === inside.shown()) return;
    inside.leave(widget);
    const waits = OF_A_TEXT.includes(wanted) && !widget && state.get("running");
    if (waits) holder.replaceChildren(element("p", "soft", `${LABELS[wanted]} opens as soon as the model has finished.`));
    else if (wanted !== "history" && wanted !== "python") holder.replaceChildren(); // what they show is told, and stays until then
    if (widget) inside.open(widget);
  }
  /** Panels without a widget are asked for when they open. */
  function ask() {
    const wanted = state.get("panel");
    if (wanted === "history" || (wanted === "python" && !state.get("running"))) state.send(wanted);
  }
  /** Show what was told, if its panel is still open. These styles are not for the widgets inside. */
  function show(name, ...content) {
    if (state.get("panel") === name) holder.replaceChildren(element("div", "own", ...content));
  }

  state.on(["panel"], () => { draw(); ask(); });
  state.on(["inside"], () => { draw(); inside.came(); });
  return {
    element: element("div", "panels", bar, note, element("div", "panel", holder)), draw, ask, leave: () => inside.leave(null),
    showPython: (message) => show("python", ...copyPanel(message)),
    showHistory: (message) => show("history", ...historyPanel(state, message)),
  };
}
