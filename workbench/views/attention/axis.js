/** Whole numbers that stand along an axis. */

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/** Round numbers from `from` to below `to`, about eight at most. */
export function ticks(from, to) {
  const every = STEPS.find((n) => (to - from) / n <= 8) ?? 10000, all = [];
  for (let n = Math.ceil(from / every) * every; n < to; n += every) all.push(n);
  return all;
}
