/** Numbers and words: what is typed, what is counted, what a message holds. */

export const limit = (value, low, high) => Math.max(low, Math.min(high, value));
/** Why what was typed cannot be taken as a whole number; "" if it can. */
export const whyRefused = (label, typed) => {
  const number = Number(typed);
  if (!Number.isInteger(number)) return `${label} ${typed}: expected a whole number.`;
  return Number.isSafeInteger(number) ? "" : `${label} ${typed}: this page can only handle whole numbers up to 9,007,199,254,740,991. Set a larger one from Python.`;
};
export const counted = (number, word = "token") => `${number} ${word}${number === 1 ? "" : "s"}`;
export const quoted = (piece) => `“${piece}”`;
/**
 * What is said of a generated token that is pointed at: the piece, and how probable it was where that is known.
 * @param {{piece: string, logprob: number|null, cut: string}} step  cut: what a stop string cut off
 */
export const tokenTitle = ({ piece, logprob, cut }) => `${logprob === null ? piece : `${quoted(piece)} ${(100 * Math.exp(logprob)).toFixed(1)} %`}${cut ? ", cut off by the stop string" : ""}`;
/** Numbers of a message, which need not lie where such an array may begin. */
export const copied = (view, Kind) => new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
export const asFloat32 = (view) => copied(view, Float32Array);
