/** What all views share: numbers, words and colours. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { between, css, fromHex, luminance, onTop, pixel } from "../../workbench/views/shared/colours.js";
import { standIn } from "../../workbench/views/shared/stand_in.js";
import { asFloat32, copied, counted, limit, quoted, tokenTitle, whyRefused } from "../../workbench/views/shared/values.js";

test("a value stays between its limits", () => {
  assert.deepEqual([limit(-1, 0, 5), limit(3, 0, 5), limit(9, 0, 5)], [0, 3, 5]);
});

test("one token, two tokens", () => {
  assert.deepEqual([counted(1), counted(2), counted(0, "row"), quoted(" a")], ["1 token", "2 tokens", "0 rows", "“ a”"]);
});

test("a token that is pointed at tells its probability, and what was cut off", () => {
  const step = { piece: " a", logprob: Math.log(0.25), cut: "" };
  assert.equal(tokenTitle(step), "“ a” 25.0 %");
  assert.equal(tokenTitle({ ...step, logprob: null }), " a");
  assert.equal(tokenTitle({ ...step, cut: "a" }), "“ a” 25.0 %, cut off by the stop string");
});

test("what is typed and is no whole number, or too large for a page, is refused by name", () => {
  assert.equal(whyRefused("seed", "17"), "");
  assert.match(whyRefused("seed", "1.5"), /^seed 1\.5: expected a whole number/);
  assert.match(whyRefused("seed", "9007199254740993"), /Set a larger one from Python/);
});

test("numbers are read from where a message has them", () => {
  const bytes = new Uint8Array(9);
  new DataView(bytes.buffer).setFloat32(1, 1.5, true);
  assert.deepEqual([...asFloat32(new DataView(bytes.buffer, 1, 4))], [1.5]);
  assert.deepEqual([...copied(new DataView(Uint8Array.of(7, 8, 9).buffer, 1), Uint8Array)], [8, 9]);
});

test("a ramp goes through its stops, and stays at its ends", () => {
  const stops = ["000000", "ff0000", "ffffff"].map(fromHex);
  assert.deepEqual(stops[1], [255, 0, 0]);
  assert.deepEqual([0, 0.25, 0.5, 1, 2, -1, NaN].map((share) => between(stops, share)), [[0, 0, 0], [128, 0, 0], [255, 0, 0], [255, 255, 255], [255, 255, 255], [0, 0, 0], [0, 0, 0]]);
});

test("colours are written for the page and for an image", () => {
  assert.equal(css([1, 2, 3]), "rgb(1 2 3)");
  assert.deepEqual([...new Uint8Array(Uint32Array.of(pixel([1, 2, 3])).buffer)], [1, 2, 3, 255]);
  assert.ok(Math.abs(luminance([255, 255, 255]) - 1) < 1e-12);
  assert.deepEqual([onTop([255, 255, 255]), onTop([10, 10, 120])], ["#000", "#fff"]);
});

test("a page without a kernel answers what it holds, and says what it does not", async () => {
  const values = { layer: 1 }, heard = [];
  const { model } = standIn(values, [{ asked: { kind: "head", layer: 2 }, content: { kind: "head" }, buffers: ["AQI="] }]);
  model.on("change:layer", () => heard.push(model.get("layer")));
  model.set("layer", 3);
  model.set("layer", 3);
  assert.deepEqual(heard, [3]);
  assert.equal(model.holds({ layer: 2, kind: "head" }), true);
  const answers = [];
  model.on("msg:custom", (content, buffers) => answers.push([content, buffers.map((view) => view.getUint8(1))]));
  model.send({ kind: "head", layer: 2 });
  model.send({ kind: "head", layer: 9 });
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(answers, [[{ kind: "head" }, [2]], [{ kind: "absent", asked: { kind: "head", layer: 9 } }, []]]);
});
