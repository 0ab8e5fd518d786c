/** What the colours and lines of the large map say, and what its points are. */
import { pen } from "../shared/canvas.js";
import { element } from "../shared/dom.js";
import { DECADES } from "./colours.js";
import { percent, signed } from "./writing.js";

/** @typedef {import("./state.js").State} State */

const LENGTH = 110, HEIGHT = 10; // of the scale, in pixels

/** @param {State} state */
export function mapLegend(state) {
  const scale = element("canvas"), low = element("span"), high = element("span"), words = element("span");
  const legend = element("div", "bar soft small", element("span", "scale", low, scale, high), words);

  /** @param {number} top  largest size on the map */
  function draw(top) {
    const difference = state.comparing(), how = state.model.get("scale");
    const context = pen(scale, LENGTH, HEIGHT), table = difference ? state.theme.difference : state.theme.row;
    for (let n = 0; n < LENGTH; n++) {
      context.fillStyle = table.css[Math.round((n / (LENGTH - 1)) * 255)];
      context.fillRect(n, 0, 1, HEIGHT);
    }
    low.textContent = scaleLow(top, difference, how);
    high.textContent = scaleHigh(top, difference, how);
    words.textContent = explained(difference, how).join("; ");
  }

  function explained(difference, how) {
    const said = [], { text } = state, apart = state.sink();
    if (how === "log") said.push("logarithmic" + (difference ? " on both sides" : ""));
    if (apart) said.push(`left column: attention to the first ${apart === 1 ? "token" : `${apart} tokens`}, ${difference ? "−100 to +100 %" : "0 to 100 %"}`);
    if (text.spans.length > 1) said.push("solid lines: boundaries of prompt, thinking and answer");
    if (text.turns.some((turn) => turn > 0)) said.push("dotted lines: start of a turn");
    return said;
  }

  return { element: legend, draw };
}

/**
 * The words at the lower end of the scale.
 * @param {number} top
 * @param {boolean} difference
 * @param {import("./colours.js").Scale} how
 */
export function scaleLow(top, difference, how) {
  if (how === "row") return difference ? "− row’s largest" : "0";
  if (difference) return signed(-top);
  return how === "log" ? percent(top / 10 ** DECADES) : "0";
}
/**
 * The words at its upper end.
 * @param {number} top
 * @param {boolean} difference
 * @param {import("./colours.js").Scale} how
 */
export function scaleHigh(top, difference, how) {
  if (how === "row") return difference ? "+ row’s largest" : "strongest of the row";
  return difference ? signed(top) : percent(top);
}
