/** In which of five classes of colour a token is: by its probability, its surprisal or the entropy at its place. */

/** @typedef {import("../shared/tokens.js").Step} Step */
/** @typedef {"none"|"probability"|"entropy"|"surprisal"} Colouring */

/** @type {[number, string][]} */
const IN_BITS = [[-Infinity, "under 0.5 bits"], [0.5, "0.5–1"], [1, "1–2"], [2, "2–4"], [4, "4 or more"]];
/** @type {Record<string, [number, string][]>} Where a class begins, in bits, and how the legend says so. */
const CLASSES = {
  probability: [[-Infinity, "90 % or more"], [0.152, "50–90 %"], [1, "20–50 %"], [2.322, "5–20 %"], [4.322, "under 5 %"]],
  surprisal: IN_BITS,
  entropy: IN_BITS,
};

/** In bits; null where the probability is not known. @param {Pick<Step, "logprob">} step */
export const surprisal = ({ logprob }) => (logprob === null ? null : Math.abs(logprob / Math.LN2));

/** @param {Step} step @param {Colouring} colouring @returns {number} 0, without a colour, to 4 */
export function colourClass(step, colouring) {
  if (colouring === "none") return 0;
  const bits = colouring === "entropy" ? step.entropy : surprisal(step);
  return bits === null ? 0 : CLASSES[colouring].findLastIndex(([start]) => bits >= start);
}

/** What the classes mean, from 0 on. @param {Colouring} colouring */
export const colourLegend = (colouring) => (colouring === "none" ? [] : CLASSES[colouring].map(([, words]) => words));
