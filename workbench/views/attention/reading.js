/** One line of words: what is under the pointer, else which head and token are selected. */
import { element } from "../shared/dom.js";
import { quoted } from "../shared/values.js";
import { NO_DIFFERENCE, percent, signed } from "./writing.js";

/** @typedef {import("./state.js").State} State */

/** @param {State} state */
export function readingLine(state) {
  const line = element("div", "reading");
  const nameOf = (token) => `${quoted(state.text.pieces[token])} (token ${token})`;

  function ofSelection() {
    const layer = state.model.get("layer"), head = state.model.get("head"), group = state.groupSize();
    const shared = Math.floor(head / group), shares = group > 1 ? ` · heads ${shared * group} to ${shared * group + group - 1} share key–value head ${shared}` : "";
    return `Layer ${layer}, head ${head}${shares}`;
  }

  /** Of a small map. */
  function ofHead([layer, head]) {
    const group = state.groupSize(), shared = group > 1 ? ` (key–value head ${Math.floor(head / group)})` : "";
    return `Layer ${layer}, head ${head}${shared}: ${state.canOpen(layer, head) ? "click to enlarge" : "it cannot be enlarged on this page"}`;
  }

  /**
   * Of a weight, or of those of the first tokens.
   * @param {import("./state.js").Hover} hover
   * @param {import("./weights.js").Pair} pair
   */
  function ofWeight({ row, column, apart }, pair) {
    const from = apart ? 0 : column, to = apart ? Math.min(state.sink(), row + 1) : from + 1;
    const target = to - from > 1 ? `the first ${to} tokens` : nameOf(from);
    if (from > row) return `${nameOf(row)} cannot attend to ${target}, which comes later`;
    if (row >= pair.rows) return `${nameOf(row)}: ${NO_DIFFERENCE}`;
    let share = 0, whole = 0;
    for (let key = from; key < to; key++) {
      share += pair.value(row, key);
      whole += pair.one.weight(row, key);
    }
    const told = pair.other ? `${percent(whole)} minus ${percent(whole - share)} = ${signed(share)}` : percent(share);
    return `${nameOf(row)} → ${target}: ${told}; evenly spread: ${percent((to - from) / (row + 1))}`;
  }

  function draw() {
    const { hover } = state, pair = state.pair(), token = state.focus();
    if (hover?.grid) line.textContent = ofHead(hover.grid);
    else if (hover?.row !== undefined && pair) line.textContent = ofWeight(hover, pair);
    else line.textContent = ofSelection() + (token >= 0 ? ` · token ${token}, ${quoted(state.text.pieces[token])}` : "");
  }

  return { element: line, draw };
}
