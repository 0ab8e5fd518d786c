/** What a matrix says of its cells, in words. Nothing here draws. */
import { counted } from "../shared/values.js";

/** @typedef {import("./state.js").Shown} Shown */

const VARIABLE = /\\\{\{|\{\{\s*([^\W\d]|[\p{L}_])[\p{L}\p{N}_]*\s*\}\}/gu; // or braces that are only text: \{{
const LIMITS = [0.8, 0.5, 0.2, 0.05]; // a token's class is the number of limits it stays below

/** A template in parts: texts, and variables as they stand in it. @param {string} template @returns {{text?: string, variable?: string}[]} */
export function templateParts(template) {
  const parts = [];
  let at = 0;
  for (const match of template.matchAll(VARIABLE)) {
    parts.push({ text: template.slice(at, match.index) }, match[0].startsWith("\\") ? { text: "{{" } : { variable: match[0] });
    at = match.index + match[0].length;
  }
  return [...parts, { text: template.slice(at) }];
}

/** The head of the rows. @param {string[]} variables */
export const rowsWords = (variables) => (variables.length > 1 ? "variables" : variables[0] ?? "prompt");

/** @param {string} path  of the file that keeps the cells, or "" */
export const fileWords = (path) => (path ? `kept in ${path}` : "kept in memory only (no path given)");

/** @param {number} stale  cells in the file that are not shown */
export const staleWords = (stale) => `The file also holds ${stale} cells of another template, setting or model; they stay there and are not shown.`;

/** The button that runs what is missing. @param {number} all  cells @param {number} done */
export function runWords(all, done) {
  if (!done) return `Run ${all} cells`;
  return done < all ? `Run the ${all - done} missing cells` : "All cells are done";
}

/**
 * @param {{all: number, done: number, failed: number}} cells
 * @param {string|null} doing  while it runs: what takes long, or ""
 */
export function progressWords({ all, done, failed }, doing) {
  const now = doing === null ? "" : `${["generating", doing].filter(Boolean).join(" · ")}: `;
  return `${now}${done} of ${all} cells done${failed ? `, ${failed} failed` : ""}`;
}

/** Below the text of a cell. @param {Shown} shown */
export function factsWords({ state, tokens, logprob_mean, seconds, reason, error }) {
  if (state !== "done") return { waiting: "waiting", running: "", error }[state];
  const facts = [`${tokens} tokens`];
  if (logprob_mean !== null) facts.push(`mean log-probability ${logprob_mean.toFixed(2).replace("-0.00", "0.00")}`);
  if (seconds !== null) facts.push(`${seconds.toFixed(1)} s`);
  return [...facts, reason].join(" · ");
}

/** Over the thinking of a cell. @param {number} tokens  those that were seen to come; 0 if it was there at once */
export const thinkingWords = (tokens) => (tokens ? `thinking, ${counted(tokens)}` : "thinking");

/** The mean of a column's ratings. @param {(number|null|undefined)[]} ratings  0 or none: not rated */
export function ratedWords(ratings) {
  const given = ratings.filter(Boolean), sum = given.reduce((total, rating) => total + rating, 0);
  return given.length ? `★ ${(sum / given.length).toFixed(1)} (${given.length} rated)` : "";
}

/** The class of a token's colour, 0 for a probable one or where that is not known. @param {number|null|undefined} logprob */
export const shade = (logprob) => (logprob === null || logprob === undefined ? 0 : LIMITS.filter((limit) => Math.exp(logprob) < limit).length);
/** What the classes mean. */
export const SHADES = ["80 % or more", "50", "20", "5", "less"];
