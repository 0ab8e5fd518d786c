/** What chance gives: exact tests, with the numbers of `analysis/exact_tests.py`. */

const LEVEL = 0.05; // of a whole panel; the same numbers as in exact_tests.py

const factorials = [0];
function logFactorial(n) {
  while (factorials.length <= n) factorials.push(factorials.at(-1) + Math.log(factorials.length));
  return factorials[n];
}
const logChoose = (n, k) => logFactorial(n) - logFactorial(k) - logFactorial(n - k);

/** Lowest and highest count that uniform routing gives: binomial tails of LEVEL / 2 / comparisons. */
export function uniformBand(tokens, share, comparisons) {
  const tail = LEVEL / 2 / comparisons;
  const mass = (k) => Math.exp(logChoose(tokens, k) + k * Math.log(share) + (tokens - k) * Math.log1p(-share));
  let low = 0, high = tokens;
  for (let sum = mass(0); sum <= tail && low < tokens; sum += mass(++low));
  for (let sum = mass(tokens); sum <= tail && high > 0; sum += mass(--high));
  return [low, high];
}

/** Whether `kept` tokens drawn at random of `all` would rarely use an expert `count` times of `total`. */
export function beyondOthers(count, total, kept, all, comparisons) {
  const above = count * all >= total * kept;
  const end = above ? Math.min(kept, total) : Math.max(0, kept - (all - total));
  const tail = LEVEL / 2 / comparisons;
  let sum = 0;
  for (let k = count; above ? k <= end : k >= end; k += above ? 1 : -1) {
    const term = Math.exp(logChoose(total, k) + logChoose(all - total, kept - k) - logChoose(all, kept));
    sum += term;
    if (sum > tail || term < tail * 1e-9) break;
  }
  return sum <= tail;
}
