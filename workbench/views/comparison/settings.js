/** The settings of columns: their names, a column that is added, and which box is whose. Nothing here draws. */

/** @typedef {import("./state.js").Settings} Settings */

const WARMER = 0.2; // a column that is added is not the same once more
/** Settings that are numbers, and the step of each. @type {["temperature" | "top_p" | "top_k" | "min_p" | "repetition_penalty", number][]} */
export const NUMBERS = [["temperature", 0.1], ["top_p", 0.05], ["top_k", 1], ["min_p", 0.01], ["repetition_penalty", 0.05]];

/** How a setting is called on the page. @param {string} setting */
export const settingName = (setting) => setting.replace("_", setting === "repetition_penalty" ? " " : "-");

export const ADDING = `add a column like the last, with the temperature ${WARMER} higher`;
/** The columns and one more. @param {Settings[]} columns @returns {Settings[]} */
export function withAnother(columns) {
  const labels = columns.map(({ label }) => label), last = columns.at(-1);
  let count = columns.length + 1;
  while (labels.includes(`column ${count}`)) count += 1;
  const temperature = Number((last.temperature + WARMER).toFixed(6)); // 0.6 + 0.2 is 0.8
  return [...columns, { ...last, temperature, label: `column ${count}` }];
}

/**
 * What a column may be called instead; "" if nothing was typed, or another column has that name.
 * @param {string} typed
 * @param {Settings[]} columns
 * @param {number} place  of the column
 */
export function newLabel(typed, columns, place) {
  const wanted = typed.trim();
  return columns.some(({ label }, n) => n !== place && label === wanted) ? "" : wanted;
}

/**
 * Which of the old columns each new one is, -1 for none: the one of that label, or, where there are as many as
 * before, the one in that place, which has another label now.
 * @param {string[]} labels
 * @param {string[]} old
 */
export function samePlaces(labels, old) {
  const found = labels.map((label) => old.indexOf(label));
  return found.map((at, place) => (at < 0 && labels.length === old.length && !found.includes(place) ? place : at));
}
