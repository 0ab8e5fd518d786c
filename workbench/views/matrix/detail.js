/** The selected cell: what was asked, its tokens by probability, and Python that makes its text again. */
import { element } from "../shared/dom.js";
import { tokenTitle } from "../shared/values.js";
import { copying } from "./copying.js";
import { visible } from "./visible.js";
import { SHADES, shade } from "./words.js";

/**
 * @typedef Detail  what Python tells of one cell; lists have one entry per token
 * @prop {number} cell
 * @prop {string} system
 * @prop {string} prompt
 * @prop {string} python  "" where there is no text to make again
 * @prop {string[]} texts
 * @prop {string[]} cuts  what a stop string cut off from each text; or none at all
 * @prop {string[]} pieces
 * @prop {(number|null)[]} logprobs
 * @prop {string[]} spans
 */

/** @param {import("./state.js").State} state */
export function detail(state) {
  const box = element("div", "detail");
  box.hidden = true;

  /** @param {Detail} message */
  function draw(message) {
    const name = state.told.columns[state.told.cells[message.cell][1]].join(" · "), { elements, code } = copying(message.python);
    const parts = [element("div", "row", element("b", "", `Cell ${message.cell}`), element("span", "soft", name), ...elements), code];
    if (message.system) parts.push(element("div", "soft small", "system"), textBox(message.system));
    parts.push(element("div", "soft small", "prompt"), textBox(message.prompt));
    if (message.texts.length) parts.push(tokensOf(message), legend());
    box.replaceChildren(...parts);
    box.dataset.cell = String(message.cell);
  }
  return { element: box, draw };
}

/** @param {string} text */
function textBox(text) {
  const box = element("div", "asked", ...visible(text));
  box.dir = "auto";
  return box;
}

/** @param {Detail} message */
function tokensOf({ texts, cuts, pieces, logprobs, spans }) {
  const tokens = element("div", "tokens", ...texts.map((text, place) => tokenOf({ text, cut: cuts[place] || "", piece: pieces[place], logprob: logprobs[place], span: spans[place] })));
  tokens.dir = "auto";
  return tokens;
}

/** @param {{text: string, cut: string, piece: string, logprob: number|null, span: string}} step */
function tokenOf(step) {
  const { text, cut, piece } = step, node = element("span", `token c${shade(step.logprob)}`, ...visible(text || (cut ? "" : piece)));
  if (cut) node.append(element("s", "", ...visible(cut)));
  node.classList.toggle("quiet", !text && !cut);
  node.classList.toggle("thought", step.span === "thinking");
  node.title = tokenTitle(step);
  return node;
}

function legend() {
  return element("div", "legend soft small", "A token's probability: ", ...SHADES.map((words, level) => element("span", `c${level}`, words)));
}
