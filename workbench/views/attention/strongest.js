/** The strongest numbers of a list: their size, whatever their sign. NaN is never among them. */

/** Largest size of values[from … to - 1]. */
export function largestSize(values, from, to) {
  let top = 0;
  for (let n = from; n < to; n++) {
    const size = Math.abs(values[n]);
    if (size > top) top = size;
  }
  return top;
}

/**
 * Where the `most` strongest of values[from … to - 1] are, the strongest first; of two alike, the earlier first.
 * @returns {number[]}
 */
export function strongestPlaces(values, from, to, most) {
  const order = [];
  for (let n = from; n < to; n++) { // a short insertion sort: the text may be long
    const size = Math.abs(values[n]);
    if (!Number.isFinite(size) || (order.length === most && size <= Math.abs(values[order.at(-1)]))) continue;
    let at = order.length;
    while (at && size > Math.abs(values[order[at - 1]])) at--;
    order.splice(at, 0, n);
    if (order.length > most) order.pop();
  }
  return order;
}

/**
 * values[from … to - 1] in `steps` parts of about one length: the strongest of each, with its sign.
 * @returns {Float32Array}
 */
export function strongestOfParts(values, from, to, steps) {
  const count = to - from, found = new Float32Array(steps);
  for (let n = 0; n < steps; n++) {
    const first = from + Math.floor((n * count) / steps), end = Math.max(first + 1, from + Math.floor(((n + 1) * count) / steps));
    for (let at = first; at < end; at++) if (Math.abs(values[at]) > Math.abs(found[n])) found[n] = values[at];
  }
  return found;
}
