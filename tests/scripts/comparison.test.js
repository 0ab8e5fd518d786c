/** The pure parts of the comparison: where texts part, columns and their names, words. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { content, firstDifference, goesOn } from "../../workbench/views/comparison/differences.js";
import { NUMBERS, newLabel, samePlaces, settingName, withAnother } from "../../workbench/views/comparison/settings.js";
import { ofColumn } from "../../workbench/views/comparison/state.js";
import { comparedWords, earlierWords, runningWords, statusWords, summaryWords } from "../../workbench/views/comparison/words.js";

const steps = (...tokens) => tokens.map(([piece, id]) => ({ piece, id }));
const column = (label, more = {}) => ({ label, model: "m", thinking: "slow", temperature: 0.6, top_p: 0.95, top_k: 0, min_p: 0, repetition_penalty: 1, ...more });

test("a byte of ASCII says its character, half of a longer one only itself", () => {
  assert.deepEqual(["<0x0A>", "<0x41>", "<0xE4>", " a", "<0x0A> "].map((piece) => content({ piece })), ["\n", "A", "<0xE4>", " a", "<0x0A> "]);
});

test("texts of the same weights are compared by ids, others by what tokens say", () => {
  const one = steps(["a", 1], ["<0x0A>", 2], ["b", 3]), two = steps(["a", 9], ["\n", 8], ["c", 3]);
  assert.equal(firstDifference(one, two, true, false), 0);
  assert.equal(firstDifference(one, two, false, false), 2);
  assert.equal(firstDifference(one, one, true, false), -1);
});

test("a text that ends earlier differs there, but not while it grows", () => {
  const long = steps(["a", 1], ["b", 2]), short = steps(["a", 1]);
  assert.equal(firstDifference(short, long, true, false), 1);
  assert.equal(firstDifference(long, short, true, false), 1);
  assert.equal(firstDifference(short, long, true, true), -1);
  assert.equal(firstDifference(long, steps(["x", 7]), true, true), 0);
  assert.equal(firstDifference([], long, true, false), 0);
});

test("a text goes on if it begins with what is known of it", () => {
  const known = steps(["a", 1], ["b", 2]);
  assert.equal(goesOn(known, steps(["a", 1], ["b", 2], ["c", 3])), true);
  assert.equal(goesOn(known, known), true);
  assert.equal(goesOn([], known), true);
  assert.equal(goesOn(known, steps(["a", 1])), false);
  assert.equal(goesOn(known, steps(["a", 1], ["b", 5])), false);
  assert.equal(goesOn(known, steps(["a", 1], ["c", 2])), false);
});

test("a column that is added has the last one's settings, a higher temperature and a name of its own", () => {
  const added = withAnother([column("one"), column("column 3", { top_k: 5 })]);
  assert.equal(added.length, 3);
  assert.deepEqual(added[2], column("column 4", { top_k: 5, temperature: 0.8 }));
  assert.equal(withAnother([column("one", { temperature: 0.1 })])[1].temperature, 0.3); // not 0.30000000000000004
});

test("a column takes no empty name and none of another column", () => {
  const columns = [column("one"), column("two")];
  assert.equal(newLabel(" three ", columns, 1), "three");
  assert.equal(newLabel("two", columns, 1), "two");
  assert.equal(newLabel("one", columns, 1), "");
  assert.equal(newLabel("  ", columns, 1), "");
});

test("columns are found by their names, a renamed one by its place", () => {
  assert.deepEqual(samePlaces(["a", "b"], ["a", "b"]), [0, 1]);
  assert.deepEqual(samePlaces(["b", "a"], ["a", "b"]), [1, 0]);
  assert.deepEqual(samePlaces(["a", "c"], ["a", "b"]), [0, 1]);
  assert.deepEqual(samePlaces(["b"], ["a", "b"]), [1]);
  assert.deepEqual(samePlaces(["a", "b", "c"], ["a", "b"]), [0, 1, -1]);
  assert.deepEqual(samePlaces(["c", "a"], ["a", "b"]), [-1, 0]); // the box in its place is a's
});

test("any text may name a column", () => {
  assert.equal(ofColumn({}, "constructor"), undefined);
  assert.equal(ofColumn({ one: 3 }, "one"), 3);
});

test("settings are called as they are written elsewhere", () => {
  assert.deepEqual(NUMBERS.map(([setting]) => settingName(setting)), ["temperature", "top-p", "top-k", "min-p", "repetition penalty"]);
});

test("how a text stands to that of reference", () => {
  assert.equal(comparedWords(-1, 3, true), "the same so far");
  assert.equal(comparedWords(-1, 3, false), "the same");
  assert.equal(comparedWords(2, 3, false), "differs from token 2");
  assert.equal(comparedWords(3, 3, false), "the same, but ends at token 3");
});

test("under a column stands what is known of its text", () => {
  const now = { count: 2, reason: "max tokens reached", compared: "the same", changed: true };
  assert.equal(statusWords(now, false), "2 tokens · max tokens reached · the same · prompt or settings have changed since");
  assert.equal(statusWords(now, true), "2 tokens · the same");
  assert.equal(statusWords({ count: 0, compared: "the same", changed: false }, false), "");
  assert.equal(statusWords({ count: 2, compared: "", changed: false }, false), "2 tokens");
});

test("at the top stands how many columns are the same, or what is done", () => {
  assert.equal(summaryWords({ others: 2, same: 1, label: "one" }), "1 of 2 the same as one");
  assert.equal(summaryWords({ others: 0, same: 0, label: "one" }), "");
  assert.deepEqual([runningWords("layer 3 of 48"), runningWords("")], ["generating · layer 3 of 48", "generating"]);
  assert.deepEqual([0, 1, 2].map(earlierWords), ["", "after 1 earlier turn of the conversation", "after 2 earlier turns of the conversation"]);
});
