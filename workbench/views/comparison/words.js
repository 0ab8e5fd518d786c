/** What a comparison says of its texts, in words. Nothing here draws. */

/**
 * How a column's text stands to that of reference.
 * @param {number} first  see `firstDifference`
 * @param {number} count  of its tokens
 * @param {boolean} running
 */
export function comparedWords(first, count, running) {
  if (first < 0) return running ? "the same so far" : "the same";
  return first === count ? `the same, but ends at token ${first}` : `differs from token ${first}`;
}

/**
 * @param {object} column
 * @param {number} column.count  of its tokens
 * @param {string} [column.reason]  why its text ended
 * @param {string} column.compared  as above; "" of the column of reference
 * @param {boolean} column.changed  whether something asked is no longer that of its text
 * @param {boolean} running
 */
export function statusWords({ count, reason, compared, changed }, running) {
  const words = [];
  if (count) words.push(`${count} tokens`);
  if (reason && !running) words.push(reason);
  if (count && compared) words.push(compared);
  if (changed && !running) words.push("prompt or settings have changed since");
  return words.join(" · ");
}

/**
 * Of all columns that have a text besides that of reference.
 * @param {{others: number, same: number, label: string}} counts  label: of the column of reference
 */
export const summaryWords = ({ others, same, label }) => (others ? `${same} of ${others} the same as ${label}` : "");

/** @param {string} doing  what takes long, or "" */
export const runningWords = (doing) => ["generating", doing].filter(Boolean).join(" · ");

/** @param {number} turns */
export const earlierWords = (turns) => (turns ? `after ${turns} earlier turn${turns === 1 ? "" : "s"} of the conversation` : "");
