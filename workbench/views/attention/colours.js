/** Colours of the view: of weights, in 256 steps, and of everything else, as the page around it is light or dark. */
import { between, css, fromHex, luminance, onTop, pixel } from "../shared/colours.js";
import { element } from "../shared/dom.js";
import { limit } from "../shared/values.js";

/**
 * @typedef ColourTable  of 256 colours
 * @prop {string[]} css
 * @prop {string[]} ink         black or white, which is read on each
 * @prop {Uint32Array} words    as ImageData holds them
 *
 * @typedef Theme
 * @prop {string} ink
 * @prop {string} paper
 * @prop {string} soft          of words of less weight
 * @prop {string} line
 * @prop {string} mark          of what is selected
 * @prop {ColourTable} row         of what a token attends to
 * @prop {ColourTable} column      of what attends to it, and of the first tokens
 * @prop {ColourTable} difference  128 for none
 *
 * @typedef {"linear"|"log"|"row"} Scale
 */

export const DECADES = 4; // of the logarithmic scale
const RAMPS = {
  light: { row: ["f4f8fc", "bcd6ec", "6aaed6", "2b7bba", "08306b"], column: ["fdf6ee", "fdd5a5", "fdae6b", "e6660d", "7f2704"], difference: ["08306b", "4292c6", "b9d6ea", "f6f6f4", "fbc9a0", "e6660d", "7f2704"] },
  dark: { row: ["1d232a", "1e4066", "2b6ca3", "5ea9dd", "d3ecff"], column: ["29231c", "5c3a15", "a5631b", "f09a3e", "ffe3c2"], difference: ["d3ecff", "5ea9dd", "25577f", "24272b", "7d4c18", "f09a3e", "ffe3c2"] },
};

/**
 * 256 colours between evenly spaced ones.
 * @param {string[]} hexes  such as "f4f8fc"
 * @returns {ColourTable}
 */
export function colourTable(hexes) {
  const stops = hexes.map(fromHex), rgb = Array.from({ length: 256 }, (_, n) => between(stops, n / 255));
  return { css: rgb.map(css), ink: rgb.map(onTop), words: Uint32Array.from(rgb, pixel) };
}

/**
 * 0 … 255, the step of a colour: a share of `top` on the chosen scale; around 128 for differences.
 * @param {number} value
 * @param {number} top  largest size on the scale
 * @param {boolean} difference
 * @param {Scale} how  "row" is linear: its caller gives the row's top
 */
export function colourStep(value, top, difference, how) {
  if (!(top > 0) || !Number.isFinite(value)) return difference ? 128 : 0;
  let share = Math.min(1, Math.abs(value) / top);
  if (how === "log") share = share > 0 ? Math.max(0, 1 + Math.log10(share) / DECADES) : 0;
  return difference ? limit(Math.round(127.5 + Math.sign(value) * 127.5 * share), 0, 255) : Math.round(255 * share);
}

/**
 * Colours that go with those around the view.
 * @param {HTMLElement} root
 * @returns {Theme}
 */
export function readTheme(root) {
  const style = getComputedStyle(root), numbers = (text) => (text.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map(Number);
  const ink = numbers(style.color), paper = numbers(style.backgroundColor), dark = luminance(paper) < 0.5;
  const colour = (name) => {
    const probe = element("span");
    probe.style.color = `var(${name})`;
    root.append(probe);
    const result = getComputedStyle(probe).color;
    probe.remove();
    return result;
  };
  const ramps = RAMPS[dark ? "dark" : "light"];
  return { ink: css(ink), paper: css(paper), soft: colour("--soft"), line: colour("--line"), mark: colour("--mark"), row: colourTable(ramps.row), column: colourTable(ramps.column), difference: colourTable(ramps.difference) };
}
