/** The attention view's pure functions: weights, half precision, blocks, colours, places, words. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ticks } from "../../workbench/views/attention/axis.js";
import { drawBars } from "../../workbench/views/attention/bars.js";
import { colourStep, colourTable } from "../../workbench/views/attention/colours.js";
import { floats, fromHalf } from "../../workbench/views/attention/half_floats.js";
import { headAt, headLeft, measuredGrid } from "../../workbench/views/attention/head_grid.js";
import { HeadStore, headName, headOfName } from "../../workbench/views/attention/head_store.js";
import { scaleHigh, scaleLow } from "../../workbench/views/attention/map_legend.js";
import { withoutFirst } from "../../workbench/views/attention/map_overlay.js";
import { movedToRow, partBetween, partShown, zoomedAround } from "../../workbench/views/attention/map_part.js";
import { cellAt, columnLeft, placed, rowTop } from "../../workbench/views/attention/map_place.js";
import { SmallMapStore } from "../../workbench/views/attention/small_map_store.js";
import { smallMapColours } from "../../workbench/views/attention/small_maps.js";
import { largestSize, strongestOfParts, strongestPlaces } from "../../workbench/views/attention/strongest.js";
import { Tile } from "../../workbench/views/attention/tile.js";
import { firstNotBelow } from "../../workbench/views/attention/token_strip.js";
import { Head, Pair } from "../../workbench/views/attention/weights.js";
import { percent, shownPiece, signed } from "../../workbench/views/attention/writing.js";

/** Numbers from 0 to 1, the same every time. */
function numbersOf(seed) {
  let now = seed;
  return () => { now = (now * 16807) % 2147483647; return now / 2147483647; };
}
const close = (found, expected) => { if (!(Math.abs(found - expected) <= 1e-5)) assert.fail(`${found} is not ${expected}`); };
/** As a message brings it: not where such an array may begin. */
const view = (array) => {
  const bytes = new Uint8Array(array.byteLength + 3);
  bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), 3);
  return new DataView(bytes.buffer, 3);
};

/** A made-up head: what a message brings of it, and its weights [row][column] by the softmax itself. */
function madeUp(seed, tokens, dim) {
  const number = numbersOf(seed), fill = () => Float32Array.from({ length: tokens * dim }, () => 4 * number() - 2);
  const query = fill(), key = fill(), weights = [], totals = new Float32Array(tokens);
  for (let row = 0; row < tokens; row++) {
    const scores = [];
    for (let column = 0; column <= row; column++) {
      let sum = 0;
      for (let n = 0; n < dim; n++) sum += query[row * dim + n] * key[column * dim + n];
      scores.push(Math.exp(sum / Math.sqrt(dim)));
    }
    const total = scores.reduce((a, b) => a + b);
    totals[row] = Math.log(total);
    weights.push(Array.from({ length: tokens }, (_, column) => (column <= row ? scores[column] / total : 0)));
  }
  return { query, key, totals, weights, buffers: [query, key, totals].map(view) };
}
const headOf = ({ buffers }) => new Head({ half: false }, buffers);

describe("half precision", () => {
  test("every kind of number has its value", () => {
    const known = [[0x0000, 0], [0x3c00, 1], [0xc000, -2], [0x3555, 0.333251953125], [0x7bff, 65504], [0x0400, 2 ** -14], [0x0001, 2 ** -24], [0x83ff, -1023 * 2 ** -24], [0x7c00, Infinity], [0xfc00, -Infinity], [0x7e00, NaN]];
    assert.deepEqual([...fromHalf(Uint16Array.from(known, ([bits]) => bits))], known.map(([, value]) => value));
    assert.ok(Object.is(fromHalf(Uint16Array.of(0x8000))[0], -0));
  });
  test("numbers grow with their bits", () => {
    const all = fromHalf(Uint16Array.from({ length: 0x7c00 }, (_, bits) => bits));
    for (let bits = 1; bits < all.length; bits++) assert.ok(all[bits] > all[bits - 1]);
  });
  test("a message holds half or single precision, wherever it begins", () => {
    assert.deepEqual([...floats(view(Uint16Array.of(0x3c00, 0x4200)), true)], [1, 3]);
    assert.deepEqual([...floats(view(Float32Array.of(0.25, -7)), false)], [0.25, -7]);
  });
});

describe("weights", () => {
  for (const dim of [1, 3, 4, 8, 10]) test(`are the softmax of queries and keys of ${dim} numbers`, () => {
    const made = madeUp(3 + dim, 9, dim), head = headOf(made);
    assert.deepEqual([head.tokens, head.dim], [9, dim]);
    for (let row = 0; row < 9; row++) for (let column = 0; column < 9; column++) close(head.weight(row, column), made.weights[row][column]);
  });
  test("of an empty text there are none", () => {
    const head = new Head({ half: true }, [new Float32Array(0), new Float32Array(0), new Float32Array(0)].map(view));
    assert.deepEqual([head.tokens, head.dim, head.bytes], [0, 0, 0]);
  });
  test("of tokens that came later are the same", () => {
    const made = madeUp(5, 9, 4), cut = ({ query, key, totals }, from, to) => [query.subarray(4 * from, 4 * to), key.subarray(4 * from, 4 * to), totals.subarray(from, to)].map(view);
    const head = new Head({ half: false }, cut(made, 0, 6));
    head.append({ half: false }, cut(made, 6, 9));
    assert.equal(head.tokens, 9);
    for (let column = 0; column < 9; column++) close(head.weight(8, column), made.weights[8][column]);
    assert.equal(head.bytes, 4 * (36 + 36 + 9));
  });
  test("a picture comes along in half precision", () => {
    const one = view(Uint16Array.of(0x3c00, 0x3800, 0x3400)), other = view(Uint16Array.of(0x3800, 0x3400, 0x3000));
    const blocks = new Head({ half: false, size: 3, sink: 1 }, [...madeUp(2, 6, 2).buffers, one, other]).blocks;
    assert.deepEqual({ ...blocks, max: [...blocks.max], mean: [...blocks.mean] }, { size: 3, sink: 1, max: [1, 0.5, 0.25], mean: [0.5, 0.25, 0.125] });
    const exact = new Head({ half: false, size: 1, sink: 0 }, [...madeUp(2, 2, 2).buffers, one]).blocks;
    assert.equal(exact.max, exact.mean);
  });
  test("a head minus another has rows that both have", () => {
    const one = madeUp(11, 7, 4), other = madeUp(12, 5, 4), pair = new Pair(headOf(one), headOf(other));
    assert.equal(pair.rows, 5);
    close(pair.value(4, 2), one.weights[4][2] - other.weights[4][2]);
    assert.ok(Number.isNaN(pair.value(5, 2)));
    const row = pair.rowOf(3, 7), column = pair.columnOf(2, 7);
    for (let n = 0; n < 7; n++) {
      close(row[n], n <= 3 ? one.weights[3][n] - other.weights[3][n] : 0);
      if (n < 5) close(column[n], n >= 2 ? one.weights[n][2] - other.weights[n][2] : 0);
      else assert.ok(Number.isNaN(column[n]));
    }
  });
});

describe("heads in memory", () => {
  test("have names that tell trace, layer and head", () => assert.deepEqual(headOfName(headName(1, 20, 3)), [1, 20, 3]));
  test("those let go are the ones not used for longest, and never those that are shown", () => {
    const store = new HeadStore();
    for (let n = 0; n < 5; n++) store.keep(`0/0/${n}`, { bytes: 2e7 }, ["0/0/0", `0/0/${n}`]);
    assert.deepEqual([...store.heads.keys()], ["0/0/0", "0/0/4"]);
    assert.equal(store.bytes, 4e7);
    store.clear();
    assert.equal(store.heads.size, 0);
  });
});

describe("the strongest", () => {
  const values = Float32Array.of(0.1, -0.9, NaN, 0.4, 0.9, -0.2, 0, 0.4);
  test("has a size, whatever its sign", () => {
    close(largestSize(values, 0, 8), 0.9);
    close(largestSize(values, 2, 4), 0.4);
    assert.equal(largestSize(values, 2, 3), 0);
  });
  test("are listed in order, the first of two alike first", () => {
    assert.deepEqual(strongestPlaces(values, 0, 8, 4), [1, 4, 3, 7]);
    assert.deepEqual(strongestPlaces(values, 5, 8, 9), [7, 5, 6]);
    const number = numbersOf(8), many = Float32Array.from({ length: 300 }, () => number() - 0.5);
    const sorted = [...many.keys()].sort((a, b) => Math.abs(many[b]) - Math.abs(many[a]) || a - b);
    assert.deepEqual(strongestPlaces(many, 0, 300, 8), sorted.slice(0, 8));
  });
  test("of parts keep their sign", () => {
    const found = [...strongestOfParts(Float32Array.of(0, 0.5, -0.75, 0.25, 0.125, -0.5, 0.5), 1, 7, 3)];
    assert.deepEqual(found, [-0.75, 0.25, -0.5]);
    assert.deepEqual([...strongestOfParts(Float32Array.of(1, 2), 0, 2, 2)], [1, 2]);
  });
  test("stands in a bar per token, or per pixel", () => {
    const bars = [];
    drawBars(Float32Array.of(0.5, 0, -1, 0.01), 0, 4, 40, 20, 1, (...bar) => bars.push(bar));
    assert.deepEqual(bars, [[0.5, 0, 9, 10], [-1, 20, 9, 20]]); // one has no length, one too little
    bars.length = 0;
    drawBars(new Float32Array(100).fill(1), 0, 100, 10, 20, 2, (...bar) => bars.push(bar));
    assert.deepEqual(bars, Array.from({ length: 10 }, (_, n) => [1, n, 1, 10]));
    drawBars(new Float32Array(3), 0, 3, 30, 20, 0, assert.fail);
  });
  test("leaves out the first tokens", () => {
    const row = Float32Array.of(1, 2, 3);
    assert.deepEqual([...withoutFirst(row, 2)], [0, 0, 3]);
    assert.deepEqual([...row], [1, 2, 3]);
  });
});

describe("blocks of the map", () => {
  /** Strongest and mean value of each block, one at a time. */
  function byHand(value, [r0, r1, c0, c1], size, first, count) {
    const max = [], mean = [];
    for (let r = r0; r < r1; r += size) for (let c = c0; c < c1; c += size) {
      const inside = [];
      for (let row = r; row < Math.min(r1, r + size); row++) for (let column = Math.max(first, c); column < Math.min(c1, c + size, row + 1); column++) if (row < count) inside.push(value(row, column));
      max.push(inside.length ? inside.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a)) : NaN);
      mean.push(inside.length ? inside.reduce((a, b) => a + b) / inside.length : NaN);
    }
    return { max, mean };
  }
  const same = (found, expected) => {
    assert.equal(found.length, expected.length);
    expected.forEach((value, n) => (Number.isNaN(value) ? Number.isNaN(found[n]) || assert.fail(`${n}`) : close(found[n], value)));
  };
  const done = (given, before = null) => { const tile = new Tile(given, before); tile.work(Infinity); return tile; };

  test("are tokens while there is room", () => {
    const made = madeUp(21, 12, 4), part = [4, 12, 2, 9], tile = done({ pair: new Pair(headOf(made), null), what: "a", part, first: 3, count: 12 });
    const expected = byHand((r, c) => made.weights[r][c], part, 1, 3, 12);
    assert.deepEqual([tile.size, tile.nr, tile.nc, tile.entire, tile.complete], [1, 8, 7, false, true]);
    same(tile.values.max, expected.max);
    same(tile.values.mean, expected.mean);
    made.weights.slice(4).forEach((row, n) => close(tile.apart[n], row[0] + row[1] + row[2]));
    const known = expected.max.map((value) => (Number.isNaN(value) ? 0 : value));
    close(tile.top("max").top, Math.max(...known));
    close(tile.top("max").rows[3], Math.max(...known.slice(21, 28)));
    assert.equal(tile.top("max"), tile.top("max"));
  });
  test("hold several tokens of a long text, of a difference with its sign", () => {
    const one = madeUp(31, 515, 2), other = madeUp(32, 510, 2), part = [0, 515, 0, 515];
    const tile = done({ pair: new Pair(headOf(one), headOf(other)), what: "a", part, first: 1, count: 515 });
    const expected = byHand((r, c) => one.weights[r][c] - other.weights[r][c], part, 2, 1, 510);
    assert.deepEqual([tile.size, tile.nr, tile.nc], [2, 258, 258]);
    same(tile.values.max, expected.max);
    same(tile.values.mean, expected.mean);
    assert.ok(Number.isNaN(tile.apart[256])); // rows that only one has
    assert.ok(!Number.isNaN(tile.apart[254]));
  });
  test("are taken from Python where they are the same", () => {
    const made = madeUp(41, 4, 2), head = headOf(made), given = { pair: new Pair(head, null), what: "a", part: [0, 4, 0, 4], first: 1, count: 4 };
    const max = Float32Array.from({ length: 10 }, (_, n) => n);
    head.blocks = { size: 1, sink: 1, max, mean: max };
    const tile = new Tile(given, null);
    assert.ok(tile.complete);
    assert.deepEqual([...tile.values.max], [0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 5, 0, 6, 7, 8, 9]);
    close(tile.apart[2], made.weights[2][0]);
    assert.ok(!new Tile({ ...given, first: 0 }, null).complete);
    assert.ok(!new Tile({ ...given, part: [0, 3, 0, 4] }, null).complete);
  });
  test("stay as the text grows, and stand in while others are worked out", () => {
    const made = madeUp(51, 9, 2), pair = new Pair(headOf(made), null), part = (n) => [0, n, 0, n];
    const before = done({ pair, what: "a", part: part(6), first: 1, count: 6 });
    const grown = new Tile({ pair, what: "a", part: part(9), first: 1, count: 9 }, before);
    assert.equal(grown.done, 6);
    assert.equal(grown.under, before);
    grown.work(Infinity);
    assert.equal(grown.under, null);
    const anew = done({ pair, what: "a", part: part(9), first: 1, count: 9 }).values.max;
    for (let row = 0; row < 9; row++) same(grown.values.max.subarray(9 * row, 9 * row + row + 1), [...anew.subarray(9 * row, 9 * row + row + 1)]);
    const zoomed = new Tile({ pair, what: "a", part: [2, 6, 1, 5], first: 1, count: 9 }, grown);
    assert.deepEqual([zoomed.done, zoomed.under], [0, grown]);
    assert.equal(new Tile({ pair, what: "a", part: part(5), first: 1, count: 9 }, zoomed).under, grown); // not what is half done
    assert.equal(new Tile({ pair, what: "b", part: part(9), first: 1, count: 9 }, grown).under, null);
  });
});

describe("colours", () => {
  test("are evenly between those given", () => {
    const { css, ink, words } = colourTable(["000000", "ff6432", "ffffff"]);
    assert.equal(css.length, 256);
    assert.deepEqual([css[0], css[255]], ["rgb(0 0 0)", "rgb(255 255 255)"]);
    assert.equal(css[51], "rgb(102 40 20)"); // two fifths of the way to the second
    assert.deepEqual([ink[0], ink[255]], ["#fff", "#000"]);
    assert.deepEqual([...new Uint8Array(words.buffer).subarray(4 * 51, 4 * 52)], [102, 40, 20, 255]);
  });
  test("follow a share of the strongest", () => {
    assert.deepEqual([0, 0.1, 0.2, 0.4, 9].map((value) => colourStep(value, 0.4, false, "linear")), [0, 64, 128, 255, 255]);
    assert.deepEqual([1, 0.1, 1e-2, 1e-4, 1e-6, 0].map((value) => colourStep(value, 1, false, "log")), [255, 191, 128, 0, 0, 0]);
    assert.equal(colourStep(0.2, 0.4, false, "row"), 128);
  });
  test("of differences go both ways from the middle", () => {
    assert.deepEqual([-1, -0.5, 0, 0.5, 1].map((value) => colourStep(value, 1, true, "linear")), [0, 64, 128, 191, 255]);
    assert.deepEqual([-1, -1e-2, 1e-2, 1].map((value) => colourStep(value, 1, true, "log")), [0, 64, 191, 255]);
  });
  test("of nothing are the first, or the middle", () => {
    for (const [value, top] of [[1, 0], [NaN, 1], [1, NaN], [Infinity, 1]]) assert.deepEqual([colourStep(value, top, false, "linear"), colourStep(value, top, true, "log")], [0, 128]);
  });
  test("of small maps are of weights again, each map with a scale of its own", () => {
    const table = Uint32Array.from({ length: 256 }, (_, n) => n), round = {};
    const map = { values: Uint8Array.of(0, 51, 102, 255, 0, 204), side: 3, difference: false, round };
    const share = (byte, most = 255) => Math.round((255 * byte * byte) / (most * most));
    assert.deepEqual([...smallMapColours(map, table, "linear")], [0, 0, 0, share(51), share(102), 0, 255, 0, share(204)]);
    assert.deepEqual([...smallMapColours(map, table, "row")], [0, 0, 0, share(51, 102), 255, 0, 255, 0, share(204)]);
    const signs = { values: Int8Array.of(0, -127, 64), side: 2, difference: true, round };
    assert.deepEqual([...smallMapColours(signs, table, "linear")], [128, 0, 0, Math.round(127.5 + 127.5 * (64 / 127) ** 2)]);
  });
  test("are explained at both ends of the scale", () => {
    assert.deepEqual([scaleLow(0.5, false, "linear"), scaleHigh(0.5, false, "linear")], ["0", "50.0 %"]);
    assert.deepEqual([scaleLow(0.5, false, "log"), scaleHigh(0.5, false, "log")], ["0.0050 %", "50.0 %"]);
    assert.deepEqual([scaleLow(0.5, true, "log"), scaleHigh(0.5, true, "log")], ["-50.0 %", "+50.0 %"]);
    assert.deepEqual([scaleLow(0.5, false, "row"), scaleHigh(0.5, false, "row")], ["0", "strongest of the row"]);
    assert.deepEqual([scaleLow(0.5, true, "row"), scaleHigh(0.5, true, "row")], ["− row’s largest", "+ row’s largest"]);
  });
});

describe("the part that is shown", () => {
  test("is the whole, or what is zoomed to if the text has it", () => {
    assert.deepEqual(partShown([], 9), [0, 9, 0, 9]);
    assert.deepEqual(partShown([1, 9, 2, 8], 9), [1, 9, 2, 8]);
    assert.deepEqual(partShown([1, 10, 2, 8], 9), [0, 9, 0, 9]);
  });
  test("is drawn from any corner, but not as a line", () => {
    assert.deepEqual(partBetween({ row: 7, column: 2 }, { row: 3, column: 5 }), [3, 8, 2, 6]);
    assert.equal(partBetween({ row: 7, column: 2 }, { row: 3, column: 2 }), null);
  });
  test("is zoomed around the selected token, within the text", () => {
    assert.deepEqual(zoomedAround([0, 100, 0, 100], 0.5, 60, 100), [35, 85, 25, 75]);
    assert.deepEqual(zoomedAround([0, 100, 0, 100], 0.5, 95, 100), [50, 100, 25, 75]);
    assert.deepEqual(zoomedAround([0, 100, 0, 100], 0.5, -1, 100), [0, 50, 0, 50]);
    assert.deepEqual(zoomedAround([40, 44, 40, 44], 0.5, 42, 100), [40, 44, 40, 44]); // no less than four
    assert.deepEqual(zoomedAround([0, 60, 0, 60], 2, 30, 100), []);
    assert.deepEqual(zoomedAround([0, 2, 0, 2], 0.5, 0, 2), []);
  });
  test("moves with the selected token", () => {
    assert.equal(movedToRow([10, 20, 3, 8], 10), null);
    assert.equal(movedToRow([10, 20, 3, 8], 19), null);
    assert.deepEqual(movedToRow([10, 20, 3, 8], 9), [9, 19, 3, 8]);
    assert.deepEqual(movedToRow([10, 20, 3, 8], 24), [15, 25, 3, 8]);
  });
});

describe("the large map's place", () => {
  const given = { part: [0, 200, 0, 200], count: 200, apart: true, width: 900, widest: () => 60 };
  test("has numbers beside a long text and pieces beside a short one", () => {
    const long = placed(given), short = placed({ ...given, part: [10, 30, 0, 20] });
    assert.deepEqual([long.rowWords, long.columnWords, long.below, long.label], [false, false, 18, 56]);
    assert.deepEqual([short.rowWords, short.columnWords, short.below, short.label], [true, true, 68, 75]);
    assert.deepEqual([long.side, short.side], [600, 600]); // a part is as large as the whole
    assert.deepEqual([long.x, long.y, long.width, long.height], [76, 35, 742, 703]);
    assert.deepEqual([placed({ ...given, apart: false }).strip, placed({ ...given, apart: false }).label], [0, 76]);
  });
  test("fits into what width there is", () => {
    for (const width of [330, 500, 700, 1200]) assert.ok(placed({ ...given, width }).width <= width);
    assert.equal(placed({ ...given, part: [0, 6, 0, 6], count: 6 }).side, 300);
    assert.equal(placed({ ...given, width: 100 }).side, 160);
  });
  test("tells of every point which weight it is", () => {
    const place = placed({ ...given, part: [40, 60, 10, 50] });
    for (const [row, column] of [[40, 10], [59, 49], [47, 33]]) {
      const x = (columnLeft(place, column) + columnLeft(place, column + 1)) / 2, y = (rowTop(place, row) + rowTop(place, row + 1)) / 2;
      assert.deepEqual(cellAt(place, [x, y]), { row, column });
      assert.deepEqual(cellAt(place, [place.label + 5, y]), { row, apart: true });
      assert.equal(cellAt(place, [place.label - 1, y]), null);
    }
    assert.deepEqual([columnLeft(place, 50), rowTop(place, 60)], [place.x + place.side, place.y + place.side]);
    assert.equal(cellAt(place, [place.x + place.side, place.y + 1]), null);
    assert.equal(cellAt(place, [place.x + 1, place.y - 1]), null);
    assert.deepEqual(cellAt(place, [0, 9999], true), { row: 59, column: 10 });
    assert.deepEqual(cellAt(place, [9999, 0], true), { row: 40, column: 49 });
  });
});

describe("small maps", () => {
  const model = { layers: [0, 2, 5], heads: 8, key_heads: 2 };
  test("fill the room there is", () => {
    const { boxes, column } = measuredGrid(model, 1000, 1);
    assert.deepEqual(boxes, { cell: 54, label: 52, gap: 7, top: 34 });
    assert.equal(column, 500); // and no more than half of it: the rest is scrolled
    assert.equal(measuredGrid(model, 4000, 1).boxes.cell, 72);
    assert.equal(measuredGrid(model, 300, 0.5).boxes.cell, 15);
    assert.equal(measuredGrid(model, 1000, 4).boxes.cell, 160);
    assert.equal(measuredGrid({ ...model, layers: Array.from({ length: 58 }, (_, n) => n) }, 1000, 1).boxes.cell, 10);
    assert.deepEqual(measuredGrid({ ...model, key_heads: 8 }, 1000, 1).boxes, { cell: 56, label: 52, gap: 0, top: 20 });
  });
  test("are found where they stand", () => {
    const { boxes } = measuredGrid(model, 1000, 1);
    assert.deepEqual([headLeft(boxes, model, 3), headLeft(boxes, model, 4)], [52 + 3 * 54, 52 + 4 * 54 + 7]);
    for (const [row, head] of [[0, 0], [2, 7], [1, 4]]) {
      const at = [headLeft(boxes, model, head), boxes.top + row * boxes.cell];
      assert.deepEqual(headAt(boxes, model, [at[0], at[1]]), [model.layers[row], head]);
      assert.deepEqual(headAt(boxes, model, [at[0] + 53.9, at[1] + 53.9]), [model.layers[row], head]);
    }
    for (const nowhere of [[60, 33], [60, 34 + 3 * 54], [51, 40], [52 + 4 * 54 + 3, 40], [9999, 40]]) assert.equal(headAt(boxes, model, nowhere), null);
  });
  test("are asked for once each, the shown layer's first, and anew when their settings change", () => {
    const traits = { layer: 2, blocks: "max", sink: 1, compare: "none", running: false }, sent = [];
    const state = { model: { get: (name) => traits[name] }, text: { ...model, count: 2 }, page: { send: (question) => sent.push(question) } };
    const store = new SmallMapStore(state);
    const answer = (question, heads) => ({ ...question, heads, tokens: 2, size: 1, every: 1 });
    const bytes = (heads) => [view(Uint8Array.from({ length: 3 * heads }, (_, n) => n))];
    store.ask(true);
    assert.equal(sent.length, 0); // Python works at a head
    store.ask(false);
    store.ask(false);
    assert.deepEqual(sent, [{ kind: "thumbnails", layer: 2, head: 0, blocks: "max", sink: 1, difference: false }]);
    assert.deepEqual(store.take(answer(sent[0], 5), bytes(5)), [16, 17, 18, 19, 20]);
    assert.deepEqual([[...store.maps.get(17).values], store.maps.get(17).side], [[3, 4, 5], 2]);
    while (store.missing.size) {
      store.ask(false);
      store.take(answer(sent.at(-1), Math.min(5, 8 - sent.at(-1).head)), bytes(5));
    }
    assert.deepEqual(sent.map(({ layer, head }) => `${layer}/${head}`), ["2/0", "2/5", "0/0", "0/5", "5/0", "5/5"]);
    assert.equal(store.maps.size, 24);
    traits.blocks = "mean";
    store.ask(false);
    assert.equal(sent.at(-1).blocks, "mean");
    assert.equal(store.take(answer({ ...sent.at(-1), blocks: "max" }, 5), bytes(5)), null); // of the last round
    store.takeAbsent(sent.at(-1));
    assert.deepEqual([store.round.absent, store.missing.size, store.asked], [true, 0, null]);
  });
});

describe("words", () => {
  test("shares have more digits the smaller they are", () => {
    assert.deepEqual([1, 0.5, 0.1, 0.0994, 0.001, 0.000994, 0, -0.25, NaN].map(percent), ["100.0 %", "50.0 %", "10.0 %", "9.94 %", "0.10 %", "0.0994 %", "0.0 %", "-25.0 %", "–"]);
    assert.deepEqual([0.25, 0, -0.25].map(signed), ["+25.0 %", "0.0 %", "-25.0 %"]);
  });
  test("of pieces show their spaces and new lines", () => assert.deepEqual([" a b", "\n\n", "<0x0A>", "床"].map(shownPiece), ["␣a␣b", "⏎⏎", "⏎", "床"]));
  test("of an axis are few and round", () => {
    assert.deepEqual(ticks(0, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert.deepEqual(ticks(3, 52), [10, 20, 30, 40, 50]);
    assert.deepEqual(ticks(990, 1100), [1000, 1020, 1040, 1060, 1080]);
    assert.deepEqual(ticks(5, 5), []);
    assert.deepEqual(ticks(0, 1e5), Array.from({ length: 10 }, (_, n) => n * 10000));
  });
  test("on screen are found by halves", () => {
    const tops = [0, 0, 0, 24, 24, 48];
    assert.deepEqual([-5, 0, 1, 24, 25, 48, 49].map((least) => firstNotBelow(tops, least)), [0, 0, 3, 3, 5, 5, 6]);
    assert.equal(firstNotBelow([], 3), 0);
  });
});
