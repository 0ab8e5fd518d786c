/** What the page says of heads and scores, in words. Nothing here draws. */
import { counted } from "../shared/values.js";
import { plain } from "./scores.js";

/** @typedef {import("./scores.js").Scores} Scores */
/** @typedef {import("./scores.js").Head} Head */
/** @typedef {import("./scores.js").Measure} Measure */

const DIGITS = { mean_distance: 1, entropy_bits: 2 };

/** A score as it is written; others are shares. @param {Measure} measure @param {number} value */
export const written = ({ name }, value) => (Number.isFinite(value) ? value.toFixed(DIGITS[name] ?? 3) : "–");

/** A score as it fits into a cell. @param {number} score @param {number} top  the highest one */
export function cellWords(score, top) {
  if (!Number.isFinite(score)) return "–";
  return top > 1.5 ? score.toFixed(1) : score.toFixed(2).replace(/^(-?)0\./, "$1.");
}

/** @param {Scores} scores */
export function sizeWords({ layers, heads, kv_heads, tokens, texts }) {
  return `${counted(layers.length, "layer")} × ${counted(heads, "head")} on ${counted(kv_heads, "key–value head")}, ${counted(tokens)}${texts > 1 ? ` of ${texts} texts` : ""}`;
}

/** @param {Measure} measure */
export function meaningWords({ name, words, pattern, chance, threshold, shuffled, queries, needed }) {
  if (!pattern) return `${words}.`;
  const even = name === "uniform" ? ": the overlap with even attention" : "", mean = queries ? `, mean over ${counted(queries, "query token")}` : "";
  const tagged = threshold == null ? "" : ` A head is tagged if its score covers at least ${Math.round(100 * threshold)} % of the distance from chance to 1${shuffled ? " and lies above every shuffled text" : ""}, over at least ${counted(needed, "query token")}.`;
  return `Share of attention on ${words}${even}${mean}. Chance: ${chance}.${tagged}`;
}

/** @param {Scores} scores @param {Head} spot */
export const headWords = (scores, { row, head }) => `layer ${scores.layers[row]}, head ${head}`;

/** One score of a head. @param {Scores} scores @param {number} place  of the measure @param {Head} spot */
export function readingWords(scores, place, spot) {
  const measure = scores.measures[place], tags = scores.tags(spot);
  const chance = measure.pattern ? `, chance ${written(measure, scores.chance(place, spot))}` : "";
  return `${headWords(scores, spot)}: ${plain(measure.name)} ${written(measure, scores.value(place, spot))}${chance}${tags ? ` · tagged ${tags}` : ""}`;
}

/** Over the ranking. @param {Measure} measure @param {number} tagged  heads @param {number} all  heads */
export function rankingWords({ name, pattern, queries, needed }, tagged, all) {
  const said = queries < needed ? `too few query tokens to tag (${queries}; ${needed} are needed)` : `${tagged} of ${all} tagged`;
  return `Highest ${plain(name)}${pattern ? ` · ${said}` : ""}`;
}

/** Heads that share a key–value head. @param {number} head @param {number} group  how many do */
export function sharingWords(head, group) {
  const shared = Math.floor(head / group), first = shared * group;
  return group > 1 ? `heads ${first} to ${first + group - 1} share key–value head ${shared}` : `key–value head ${shared}`;
}
