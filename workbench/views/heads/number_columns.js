/** The columns of the table of all scores. Nothing here draws. */
import { plain } from "./scores.js";
import { written } from "./words.js";

/**
 * @typedef {import("./scores.js").Head} Head
 *
 * @typedef NumberColumn
 * @prop {string} name
 * @prop {(head: Head) => number|string} key   by which it is sorted
 * @prop {(head: Head) => string} words
 */

/** @param {import("./scores.js").Scores} scores @returns {NumberColumn[]} */
export function columnsOf(scores) {
  const whole = (name, key) => ({ name, key, words: (spot) => String(key(spot)) });
  return [
    whole("layer", ({ row }) => scores.layers[row]),
    whole("head", ({ head }) => head),
    whole("kv head", ({ head }) => Math.floor(head / scores.group)),
    ...scores.measures.map((measure, place) => ({ name: plain(measure.name), key: (spot) => scores.value(place, spot), words: (spot) => written(measure, scores.value(place, spot)) })),
    { name: "tags", key: (spot) => scores.tags(spot), words: (spot) => scores.tags(spot) || "–" },
  ];
}

/** Numbers by size, what is no number before all others; texts as they are sorted in the page's language. */
const compared = (a, b) => (typeof a === "string" ? a.localeCompare(b) : rankOf(a) - rankOf(b));
const rankOf = (value) => (Number.isFinite(value) ? value : -Infinity);

/**
 * Heads by one column; as they are if there is none of that name.
 * @param {Head[]} heads
 * @param {NumberColumn[]} columns
 * @param {{column: string, up: boolean}} order  up: the lowest first
 */
export function sorted(heads, columns, { column, up }) {
  const by = columns.find(({ name }) => name === column);
  return by ? [...heads].sort((a, b) => (up ? 1 : -1) * compared(by.key(a), by.key(b))) : heads;
}
