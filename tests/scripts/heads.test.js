/** The pure parts of the heads view: scores, their order, the map's grid, words. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { columnLeft, lineTop, mapGrid, mapHeight, mapWidth, placeAfter, placeAt, widestMap } from "../../workbench/views/heads/map_grid.js";
import { columnsOf, sorted } from "../../workbench/views/heads/number_columns.js";
import { Scores, plain } from "../../workbench/views/heads/scores.js";
import { Shown } from "../../workbench/views/heads/shown.js";
import { isSame } from "../../workbench/views/heads/state.js";
import { cellWords, meaningWords, rankingWords, readingWords, sharingWords, sizeWords, written } from "../../workbench/views/heads/words.js";

const PATTERN = { name: "own_token", words: "the token itself", pattern: true, chance: "1 / n", threshold: 0.5, shuffled: false, queries: 12, needed: 10 };
const ENTROPY = { name: "entropy_bits", words: "Entropy, in bits", pattern: false };
const bytes = (array) => new DataView(array.buffer);

/** Layers 4 and 7, 2 heads each; head 7.1 has nothing to score. */
function scores() {
  const own = [0.25, 0.75, 0.5, NaN], chances = [0, 0.5, 0.25, 0.5], entropy = [3, 2, 1, NaN];
  return new Scores(
    { model: "tiny", tokens: 12, texts: 1, layers: [4, 7], heads: 2, kv_heads: 1, measures: [PATTERN, ENTROPY] },
    [bytes(Float32Array.of(...own, ...entropy)), bytes(Float32Array.from(chances)), bytes(Uint8Array.of(0, 1, 0, 0))],
  );
}
const USUAL = /** @type {const} */ ({ score: "own_token", relative: false, tagged_only: false, layer_order: "model", head_order: "model" });
const shown = (choice = {}) => new Shown(scores(), { ...USUAL, ...choice });
const names = (heads) => heads.map(({ row, head }) => `${row}.${head}`);

test("scores are read by measure, layer and head", () => {
  const data = scores();
  assert.deepEqual(data.all().map((head) => data.value(0, head)), [0.25, 0.75, 0.5, NaN]);
  assert.equal(data.value(1, { row: 1, head: 0 }), 1);
  assert.equal(data.above(0, { row: 0, head: 1 }), 0.5); // (0.75 - 0.5) / (1 - 0.5)
  assert.ok(Number.isNaN(data.chance(1, { row: 0, head: 0 }))); // no pattern
  assert.deepEqual([data.tags({ row: 0, head: 1 }), data.tags({ row: 1, head: 0 })], ["own token", ""]);
  assert.deepEqual([data.place("entropy_bits"), data.group, plain("own_token")], [1, 2, "own token"]);
});

test("heads are ranked, those without a score last", () => {
  assert.deepEqual(names(shown().ranked()), ["0.1", "1.0", "0.0", "1.1"]);
  assert.deepEqual(names(shown({ score: "entropy_bits" }).ranked()), ["0.0", "0.1", "1.0", "1.1"]);
  assert.deepEqual(names(shown({ tagged_only: true }).ranked()), ["0.1"]);
  assert.equal(shown({ tagged_only: true, score: "entropy_bits" }).ranked().length, 4); // nothing is tagged with it
});

test("relative to chance the order may be another one", () => {
  const now = shown({ relative: true }); // 0.25, 0.5, 1/3
  assert.deepEqual(names(now.ranked()), ["0.1", "1.0", "0.0", "1.1"]);
  assert.ok(Math.abs(now.score({ row: 1, head: 0 }) - 1 / 3) < 1e-6);
  assert.equal(shown({ relative: true, score: "entropy_bits" }).isRelative, false);
});

test("rows and columns of the map stand in order, or the highest first", () => {
  assert.deepEqual([shown().rows(), shown().columns(0)], [[0, 1], [0, 1]]);
  const best = shown({ layer_order: "score", head_order: "score" });
  assert.deepEqual([best.rows(), best.columns(0), best.columns(1)], [[0, 1], [1, 0], [0, 1]]);
  assert.deepEqual(shown({ layer_order: "score", score: "entropy_bits" }).rows(), [0, 1]);
  assert.equal(best.isByRank, true);
});

test("colours go from 0 for shares, from the lowest for others", () => {
  assert.deepEqual(shown().range(shown().known()), [0, 0.75]);
  assert.deepEqual(shown({ score: "entropy_bits" }).range([3, 2, 1]), [1, 3]);
  const [low, top] = shown({ score: "entropy_bits" }).range([2, 2]);
  assert.ok(low < top); // a difference to divide by
});

test("every point of the map is the cell that is drawn there", () => {
  const shape = { layers: [0, 1, 2], heads: 6, kv_heads: 2 }, grid = mapGrid(220, shape, false);
  assert.deepEqual(grid, { lines: 3, columns: 6, cell: 27, height: 21, gap: 5, group: 3 }); // (220 - 46 - 4 - 5) / 6 = 27.5
  assert.equal(mapWidth(grid), 46 + 6 * 27 + 5 + 4);
  assert.equal(mapHeight(grid), 22 + 3 * 21 + 34);
  const found = new Map();
  for (let y = 0; y < mapHeight(grid); y++) for (let x = 0; x < mapWidth(grid); x++) {
    const place = placeAt(grid, [x, y]);
    if (place) found.set(`${place.line}.${place.column}`, (found.get(`${place.line}.${place.column}`) || 0) + 1);
  }
  assert.equal(found.size, 18);
  assert.deepEqual([...new Set(found.values())], [27 * 21]);
  assert.deepEqual(placeAt(grid, [columnLeft(grid, 3), lineTop(grid, 2)]), { line: 2, column: 3 });
  assert.equal(placeAt(grid, [columnLeft(grid, 3) - 1, lineTop(grid, 2)]), null); // between key–value heads
});

test("cells are neither too narrow nor too wide, and by rank there are no gaps", () => {
  const shape = { layers: [0], heads: 6, kv_heads: 2 };
  assert.equal(mapGrid(60, shape, false).cell, 9);
  assert.equal(mapGrid(2000, shape, false).cell, 46);
  assert.equal(widestMap(shape, false), mapWidth(mapGrid(2000, shape, false)));
  assert.equal(widestMap(shape, true), 46 + 6 * 46 + 4);
});

test("keys move within the map", () => {
  const grid = mapGrid(400, { layers: [0, 1], heads: 3, kv_heads: 1 }, false), from = { line: 0, column: 1 };
  const after = (key) => { const { line, column } = placeAfter(key, from, grid); return [line, column]; };
  assert.deepEqual(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End"].map(after), [[0, 1], [1, 1], [0, 0], [0, 2], [0, 0], [0, 2]]);
  assert.equal(placeAfter("a", from, grid), null);
});

test("the table of all scores is sorted by number, by text, and back", () => {
  const data = scores(), columns = columnsOf(data), by = (column, up) => names(sorted(data.all(), columns, { column, up }));
  assert.deepEqual(columns.map(({ name }) => name), ["layer", "head", "kv head", "own token", "entropy bits", "tags"]);
  assert.deepEqual(by("", false), ["0.0", "0.1", "1.0", "1.1"]);
  assert.deepEqual(by("own token", false), ["0.1", "1.0", "0.0", "1.1"]);
  assert.deepEqual(by("own token", true), ["1.1", "0.0", "1.0", "0.1"]);
  assert.deepEqual(by("tags", false)[0], "0.1");
  assert.deepEqual(columns.map(({ words }) => words({ row: 0, head: 1 })), ["4", "1", "0", "0.750", "2.00", "own token"]);
  assert.deepEqual(columns.map(({ words }) => words({ row: 1, head: 1 })).slice(3), ["–", "–", "–"]);
});

test("numbers are written with the digits that they have", () => {
  assert.equal(written(PATTERN, 0.12345), "0.123");
  assert.equal(written(ENTROPY, 1.239), "1.24");
  assert.equal(written({ ...ENTROPY, name: "mean_distance" }, 12.34), "12.3");
  assert.equal(written(PATTERN, NaN), "–");
  assert.deepEqual([cellWords(0.123, 1), cellWords(-0.123, 1), cellWords(1.23, 1.4), cellWords(1.23, 2), cellWords(NaN, 1)], [".12", "-.12", "1.23", "1.2", "–"]);
});

test("a head is told in a sentence", () => {
  assert.equal(readingWords(scores(), 0, { row: 0, head: 1 }), "layer 4, head 1: own token 0.750, chance 0.500 · tagged own token");
  assert.equal(readingWords(scores(), 1, { row: 1, head: 0 }), "layer 7, head 0: entropy bits 1.00");
  assert.equal(sizeWords(scores()), "2 layers × 2 heads on 1 key–value head, 12 tokens");
  assert.equal(sharingWords(5, 4), "heads 4 to 7 share key–value head 1");
  assert.equal(sharingWords(5, 1), "key–value head 5");
});

test("what a score means, and when a head is tagged", () => {
  assert.equal(meaningWords(ENTROPY), "Entropy, in bits.");
  assert.equal(meaningWords(PATTERN), "Share of attention on the token itself, mean over 12 query tokens. Chance: 1 / n. A head is tagged if its score covers at least 50 % of the distance from chance to 1, over at least 10 query tokens.");
  assert.match(meaningWords({ ...PATTERN, shuffled: true }), / and lies above every shuffled text, over/);
  assert.doesNotMatch(meaningWords({ ...PATTERN, threshold: null }), /tagged/);
});

test("the ranking says how many heads are tagged, or why none can be", () => {
  assert.equal(rankingWords(PATTERN, 3, 8), "Highest own token · 3 of 8 tagged");
  assert.equal(rankingWords({ ...PATTERN, queries: 4 }, 0, 8), "Highest own token · too few query tokens to tag (4; 10 are needed)");
  assert.equal(rankingWords(ENTROPY, 0, 8), "Highest entropy bits");
});

test("one head is the same as itself, no head as no head", () => {
  assert.deepEqual([isSame({ row: 0, head: 1 }, { row: 0, head: 1 }), isSame({ row: 0, head: 1 }, { row: 1, head: 1 }), isSame(null, null), isSame(null, { row: 0, head: 1 })], [true, false, true, false]);
});
