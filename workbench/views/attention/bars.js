/** Bars of one row of weights: one per token, or per pixel where tokens are narrower. */
import { strongestOfParts } from "./strongest.js";

/**
 * @param {Float32Array} values
 * @param {number} from  first token
 * @param {number} to  end token
 * @param {number} span  pixels from the first to the end
 * @param {number} size  pixels of the longest bar
 * @param {number} top  its value; bars of differences go the same way, by their size
 * @param {(value: number, at: number, wide: number, length: number) => void} bar  draws one
 */
export function drawBars(values, from, to, span, size, top, bar) {
  const steps = Math.min(to - from, Math.round(span)), wide = Math.max(1, span / steps - (span / steps > 4 ? 1 : 0));
  strongestOfParts(values, from, to, steps).forEach((value, n) => {
    const length = top ? Math.min(1, Math.abs(value) / top) * size : 0;
    if (length >= 0.3) bar(value, (n * span) / steps, wide, length);
  });
}
