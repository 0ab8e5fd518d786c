/** The pure parts of the prompt matrix: its template, moves in the grid, words. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { beside, isMove } from "../../workbench/views/matrix/moving.js";
import { visibleParts } from "../../workbench/views/matrix/visible.js";
import { SHADES, factsWords, fileWords, progressWords, ratedWords, rowsWords, runWords, shade, staleWords, templateParts, thinkingWords } from "../../workbench/views/matrix/words.js";

const cells = (...places) => places.map(([row, column]) => [row, column, {}]);
const done = (more = {}) => ({ state: "done", tokens: 12, logprob_mean: -0.5, seconds: 1.26, reason: "max tokens reached", rating: null, note: "", answer: "a", thinking: "", ...more });

test("signs that cannot be seen, or turn a line, stand there by name", () => {
  assert.deepEqual(visibleParts("a\u202eb\u0000"), [{ text: "a" }, { sign: "U+202E" }, { text: "b" }, { sign: "U+0000" }]);
  assert.deepEqual(visibleParts("שלום\n\t<b>"), [{ text: "שלום\n\t<b>" }]);
  assert.deepEqual(visibleParts(""), []);
});

test("variables of a template are told from braces that are only text", () => {
  const written = (template) => templateParts(template).map(({ text, variable }) => (variable ? [variable] : text)).filter((part) => part !== "");
  assert.deepEqual(written("say {{x}} to {{ große_2 }}!"), ["say ", ["{{x}}"], " to ", ["{{ große_2 }}"], "!"]);
  assert.deepEqual(written("\\{{x}} {x} {{ 2 }}"), ["{{", "x}} {x} {{ 2 }}"]);
  assert.deepEqual(written("{{a}}{{b}}"), [["{{a}}"], ["{{b}}"]]);
  assert.deepEqual(written(""), []);
});

test("arrow keys lead to the cell beside, wherever it stands in the list", () => {
  const all = cells([0, 0], [1, 0], [0, 1], [1, 1]); // column by column
  assert.deepEqual(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"].map((key) => beside(key, all, 1)), [0, -1, -1, 3]);
  assert.deepEqual(["ArrowUp", "Enter", "toString"].map(isMove), [true, false, false]);
});

test("under a cell stands what is known of its text", () => {
  assert.equal(factsWords(done()), "12 tokens · mean log-probability -0.50 · 1.3 s · max tokens reached");
  assert.equal(factsWords(done({ logprob_mean: -0.001 })), "12 tokens · mean log-probability 0.00 · 1.3 s · max tokens reached");
  assert.equal(factsWords(done({ logprob_mean: null, seconds: null })), "12 tokens · max tokens reached");
  assert.deepEqual(["waiting", "running", "error"].map((state) => factsWords(done({ state, error: "it broke" }))), ["waiting", "", "it broke"]);
});

test("the button says what is missing", () => {
  assert.deepEqual([runWords(6, 0), runWords(6, 4), runWords(6, 6)], ["Run 6 cells", "Run the 2 missing cells", "All cells are done"]);
});

test("how far the cells are", () => {
  assert.equal(progressWords({ all: 6, done: 2, failed: 0 }, null), "2 of 6 cells done");
  assert.equal(progressWords({ all: 6, done: 2, failed: 1 }, ""), "generating: 2 of 6 cells done, 1 failed");
  assert.equal(progressWords({ all: 6, done: 2, failed: 0 }, "layer 2 of 48"), "generating · layer 2 of 48: 2 of 6 cells done");
});

test("the mean of ratings leaves out cells without one", () => {
  assert.equal(ratedWords([4, 0, null, undefined, 5]), "★ 4.5 (2 rated)");
  assert.equal(ratedWords([null, 0]), "");
});

test("a token's colour tells how probable it was", () => {
  assert.deepEqual([0.9, 0.81, 0.79, 0.49, 0.19, 0.04].map((probability) => shade(Math.log(probability))), [0, 0, 1, 2, 3, 4]);
  assert.deepEqual([shade(null), shade(undefined)], [0, 0]);
  assert.equal(SHADES.length, 5);
});

test("heads of rows, thinking, and where cells are kept", () => {
  assert.deepEqual([[], ["city"], ["city", "year"]].map(rowsWords), ["prompt", "city", "variables"]);
  assert.deepEqual([0, 1, 2].map(thinkingWords), ["thinking", "thinking, 1 token", "thinking, 2 tokens"]);
  assert.deepEqual([fileWords("a.jsonl"), fileWords("")], ["kept in a.jsonl", "kept in memory only (no path given)"]);
  assert.match(staleWords(3), /holds 3 cells of another template/);
});
