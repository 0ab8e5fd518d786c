/** The pure parts of the routing view, against values worked out in another way. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { beyondOthers, uniformBand } from "../../workbench/views/routing/chance.js";
import { choiceAt, choiceGrid, layerTop, tokensShown } from "../../workbench/views/routing/choice_grid.js";
import { Counts, passing } from "../../workbench/views/routing/counts.js";
import { Details } from "../../workbench/views/routing/details.js";
import { byWeight, partners } from "../../workbench/views/routing/expert_card.js";
import { selectedBy } from "../../workbench/views/routing/keyboard.js";
import { DOMAIN, domainTop, expertLeft, loadAt, loadGrid, loadHeight } from "../../workbench/views/routing/load_grid.js";
import { readoutOf, summaryOf, titleOf, warningOf } from "../../workbench/views/routing/readout.js";
import { globalTop } from "../../workbench/views/routing/router_panel.js";
import { matcher, saidBy } from "../../workbench/views/routing/search.js";
import { Tokens } from "../../workbench/views/routing/tokens.js";
import { besideChance, fixed, percent } from "../../workbench/views/routing/writing.js";

const bytes = (array) => new DataView(array.buffer);

/** Two texts of one model: 2 layers, 2 groups of 2 experts, one of each chosen; [token][layer] = experts. */
const CHOICES = [[[0, 2], [1, 3]], [[0, 3], [1, 2]], [[1, 2], [0, 3]], [[1, 3], [0, 2]]];
function tokens() {
  const nibbles = CHOICES.flat(2).map((expert) => expert % 2); // place within the group
  const packed = new Uint8Array(nibbles.length / 2).map((_, n) => nibbles[2 * n] | (nibbles[2 * n + 1] << 4));
  return new Tokens(
    {
      layers: 2, slots: 2, experts: 4, groups: 2, grouped: true, obeyed_groups: 2, block: 2, missing: [], error: "",
      documents: [
        { label: "verse", model: "tiny", pieces: ["To", " be"], spans: [{ kind: "prompt", start: 0, end: 1 }, { kind: "thinking", start: 1, end: 2 }], prompt: 1 },
        { label: "sums", model: "tiny", pieces: ["1", "<0x41>"], spans: [{ kind: "prompt", start: 0, end: 2 }], prompt: 2 },
      ],
    },
    [bytes(packed), bytes(new Float32Array([1, 2, 3, 4])), bytes(new Uint8Array([0, 0, 0, 255, 255, 255, 9, 9, 9, 200, 200, 200])), bytes(new Float32Array(16).map((_, n) => n))],
  );
}
const ALL = { domain: "all", span: "all", phase: "all", search: "" };

/** Binomial probabilities by Pascal's triangle and plain powers. */
function binomial(n, p) {
  let row = [1];
  for (let k = 0; k < n; k++) row = [...row, 0].map((value, place) => value + (place ? row[place - 1] : 0));
  return row.map((ways, k) => ways * p ** k * (1 - p) ** (n - k));
}

test("the band of uniform routing leaves a tail of at most 2.5 % on each side", () => {
  for (const [tokens, share] of [[20, 0.125], [40, 0.25], [7, 0.5], [1, 0.125]]) {
    const chances = binomial(tokens, share), [low, high] = uniformBand(tokens, share, 1);
    const below = (k) => chances.slice(0, k).reduce((a, b) => a + b, 0), above = (k) => chances.slice(k + 1).reduce((a, b) => a + b, 0);
    assert.ok(below(low) <= 0.025 && below(low + 1) > 0.025, `${tokens} ${share} low ${low}`);
    assert.ok(above(high) <= 0.025 && above(high - 1) > 0.025, `${tokens} ${share} high ${high}`);
  }
});

test("known bands of uniform routing", () => {
  // 10 tokens, 1/2: P(0 or 1) = 11/1024 = 1.1 %, P(0 to 2) = 56/1024 = 5.5 %; the other side is its mirror.
  assert.deepEqual(uniformBand(10, 0.5, 1), [2, 8]);
  // 100 tokens, 1/2: 40 to 60, as in tables of the binomial distribution.
  assert.deepEqual(uniformBand(100, 0.5, 1), [40, 60]);
  // 4096 tokens, 1/8, 48 · 64 cells: about 512 ± 21.2 · 4.31, of a normal distribution's tail of 0.025 / 3072.
  const [low, high] = uniformBand(4096, 0.125, 3072);
  assert.ok(Math.abs(low - 421) <= 4 && Math.abs(high - 605) <= 4, `${low} ${high}`);
});

test("more comparisons make the band wider", () => {
  const [low, high] = uniformBand(40, 0.25, 1), [lower, higher] = uniformBand(40, 0.25, 256);
  assert.ok(lower < low && higher > high);
  assert.deepEqual(uniformBand(0, 0.125, 1), [0, 0]);
});

test("a random choice of tokens is judged by the hypergeometric tail", () => {
  // 4 of 4 uses among 5 of 20 tokens: C(4,4) C(16,1) / C(20,5) = 16 / 15504 = 0.1 %.
  assert.equal(beyondOthers(4, 4, 5, 20, 1), true);
  assert.equal(beyondOthers(4, 4, 5, 20, 100), false); // 0.1 % is more than 2.5 % / 100
  // 0 of 10 among 5 of 20: C(10,5) / C(20,5) = 252 / 15504 = 1.6 %.
  assert.equal(beyondOthers(0, 10, 5, 20, 1), true);
  assert.equal(beyondOthers(0, 10, 5, 20, 2), false);
  assert.equal(beyondOthers(1, 4, 5, 20, 1), false); // as expected
});

test("a search asks for what a token says, and for names only if it spells one", () => {
  assert.equal(saidBy("<0x41>"), "A");
  assert.equal(saidBy("<0xE4>"), null); // half of a character
  assert.equal(saidBy("[unused9]"), null);
  assert.equal(saidBy(" be"), " be");
  assert.equal(matcher("BE")(" be"), true);
  assert.equal(matcher("unused")("[unused9]"), false);
  assert.equal(matcher("[unused")("[unused9]"), true);
  assert.equal(matcher("/^ ?[0-9]+$/")(" 12"), true);
  assert.equal(matcher("/^ ?[0-9]+$/")("a1"), false);
  assert.equal(matcher("/(/"), null);
});

test("choices packed in four bits are read back", () => {
  const data = tokens();
  for (const [token, layers] of CHOICES.entries())
    for (const [layer, experts] of layers.entries()) {
      assert.deepEqual(experts, [0, 1].map((slot) => data.at(token, layer, slot)));
      for (const expert of [0, 1, 2, 3]) assert.equal(data.slot(token, layer, expert), experts.indexOf(expert));
    }
  assert.deepEqual([data.count, data.starts, data.labels], [4, [0, 2], ["verse", "sums"]]);
  assert.deepEqual([data.within(3), data.label(3), data.group(3)], [1, "sums", 1]);
  assert.equal(data.scale(2, 1, 3), 15); // of document 1, layer 1
});

test("tokens of a live generation are appended", () => {
  const data = tokens();
  data.append({ pieces: ["!"], span: "answer", missing: [] }, [bytes(new Uint8Array([0x10, 0x01])), bytes(new Float32Array([5]))]);
  assert.equal(data.count, 5);
  assert.deepEqual([0, 1].map((layer) => [data.at(4, layer, 0), data.at(4, layer, 1)]), [[0, 3], [1, 2]]);
  assert.deepEqual([data.bits[0], data.bits[4], data.decode[4], data.kind[4]], [1, 5, 1, 2]);
});

test("filters leave the tokens that they name", () => {
  const data = tokens(), of = (filters) => [...passing(data, { ...ALL, ...filters })];
  assert.deepEqual(of({}), [1, 1, 1, 1]);
  assert.deepEqual(of({ domain: "sums" }), [0, 0, 1, 1]);
  assert.deepEqual(of({ span: "thinking" }), [0, 1, 0, 0]);
  assert.deepEqual(of({ phase: "decode" }), [0, 1, 0, 0]);
  assert.deepEqual(of({ search: "/^[A-Z]/" }), [1, 0, 0, 1]); // <0x41> says A
});

test("uses are counted by layer and expert, and compared with the other tokens", () => {
  const counts = new Counts(tokens(), { ...ALL, domain: "verse" }, true);
  assert.deepEqual([...counts.counts], [2, 0, 1, 1, 0, 2, 1, 1]);
  assert.deepEqual([...counts.totals], [2, 2, 2, 2, 2, 2, 2, 2]);
  assert.equal(counts.kept, 2);
  assert.equal(counts.chance, 0.5);
  assert.equal(counts.share(0, 0), 1);
  assert.equal(counts.shareOfOthers(0, 0), 0);
  assert.equal(counts.base(0, 0), 0);
  assert.equal(new Counts(tokens(), ALL, true).base(0, 0), 0.5); // no others: uniform routing
  assert.deepEqual(counts.byDomain(0, 4).map(({ label, tokens, count }) => [label, tokens, [...count]]), [["verse", 2, [2, 0, 1, 1]], ["sums", 2, [0, 2, 1, 1]]]);
});

test("partners are weighed against independence, those of the own group are impossible", () => {
  const uses = [10, 10, 15, 5];
  const found = partners(0, { experts: 4, slots: 2, groups: 2, users: 10, kept: 20, together: [10, 0, 5, 5], uses: (expert) => uses[expert] });
  assert.deepEqual(found.map(({ other, lift }) => [other, Number(lift.toFixed(4))]), [[3, 2], [2, 0.6667]]);
  // Two of each group: a pair of one group is rarer by (2 - 1) · 4 / (2 · 3) = 2/3, and lift is over that.
  const several = partners(0, { experts: 4, slots: 2, groups: 1, users: 10, kept: 20, together: [10, 4, 4, 2], uses: () => 10 });
  assert.deepEqual(several.map(({ other, lift }) => [other, Number(lift.toFixed(4))]), [[1, 1.2], [2, 1.2], [3, 0.6]]);
});

test("partners beyond chance stand before those with more lift", () => {
  // Of 20 tokens 10 are the expert's. Expert 1: 9 of its 10 uses, C(10,9) C(10,1) + C(10,10) of C(20,10) = 101 / 184756 = 0.05 %;
  // expert 2: 1 of its 1 use, 1/2. Lift 1.8 and 2.
  const rows = partners(0, { experts: 3, slots: 3, groups: 3, users: 10, kept: 20, together: [10, 9, 1], uses: (expert) => [10, 10, 1][expert] });
  assert.deepEqual(rows.map(({ other, lift, marked }) => [other, lift, marked]), [[1, 1.8, true], [2, 2, false]]);
});

test("of equal probabilities the lower id is in the global top, of equal weights the earlier token first", () => {
  assert.deepEqual([...globalTop(Float32Array.of(0.1, 0.4, 0.1, 0.4), 3)], [1, 3, 0]);
  assert.deepEqual(byWeight([{ token: 3, weight: 1 }, { token: 1, weight: 1 }, { token: 2, weight: 2 }]).map(({ token }) => token), [2, 1, 3]);
});

test("details are asked for once, and what a page does not hold is not asked again", () => {
  const asked = [], details = new Details((question) => asked.push(question)), data = tokens();
  details.clear(data);
  assert.equal(details.probabilities(1, 3), null);
  assert.ok(Number.isNaN(details.weight(0, 0, 0)));
  details.settle(false, false);
  details.settle(false, false);
  assert.deepEqual(asked, [{ kind: "block", layer: 1, block: 1 }, { kind: "layer", layer: 0 }]);
  details.take({ kind: "block", layer: 1, block: 1 }, [bytes(new Float32Array([0, 0, 0, 0, 0.5, 0.25, 0.125, 0.125]))]);
  assert.deepEqual([...details.probabilities(1, 3)], [0.5, 0.25, 0.125, 0.125]);
  details.take({ kind: "absent", asked: { kind: "layer", layer: 0 } }, []);
  details.begin();
  assert.ok(Number.isNaN(details.weight(0, 0, 0)));
  details.settle(false, false);
  assert.equal(asked.length, 2);
});

test("shares and numbers that are not known are a dash", () => {
  assert.equal(percent(0.1234), "12.3 %");
  assert.equal(percent(NaN), "–");
  assert.equal(fixed(1.005, 1), "1.0");
  assert.equal(fixed(undefined, 3), "–");
});

test("numbers lie above, below or within chance", () => {
  assert.deepEqual([besideChance(true, true), besideChance(true, false), besideChance(false, true)], ["above", "below", "within"]);
});

/** [y][x] what lies where, painted cell by cell; later cells lie on top. */
function painted(width, height, cells) {
  const raster = Array.from({ length: height }, () => new Array(width).fill(null));
  for (const { x, y, wide, high, what } of cells) for (let v = y; v < Math.min(height, y + high); v++) for (let u = x; u < Math.min(width, x + wide); u++) raster[v][u] = what;
  return raster;
}

test("every point of the map of choices is the cell that is drawn there", () => {
  const shape = { layers: 3, slots: 4 }, grid = choiceGrid(200, shape), cell = 16, columns = tokensShown(grid, cell, 7);
  assert.deepEqual(grid, { width: 200, left: 66, row: 10, gap: 4 });
  assert.equal(columns, 7); // 8 would fit
  const cells = [], height = layerTop(grid, 4, 3);
  assert.equal(height, 3 * (4 * 10 + 4));
  for (let column = 0; column < columns; column++)
    for (let layer = 0; layer < 3; layer++)
      for (let slot = 0; slot < 4; slot++) cells.push({ x: 66 + 16 * column, y: 44 * layer + 10 * slot, wide: 16, high: slot === 3 ? 14 : 10, what: { column, layer, slot } });
  const raster = painted(200, height, cells);
  for (let y = 0; y < height; y++) for (let x = 0; x < 200; x++) assert.deepEqual(choiceAt(grid, shape, cell, columns, [x + 0.5, y + 0.5]), raster[y][x], `${x} ${y}`);
});

test("a large model's rows are thin, and a map shows as many tokens as fit", () => {
  const grid = choiceGrid(1000, { layers: 48, slots: 8 });
  assert.deepEqual([grid.row, grid.gap], [1, 1]);
  assert.deepEqual([tokensShown(grid, 3, 4096), tokensShown(grid, 3, 40), tokensShown(grid, 5000, 40), tokensShown(grid, 3, 0)], [311, 40, 1, 0]);
});

test("every point of the loads is the cell that is drawn there", () => {
  const shape = { layers: 2, experts: 6, groups: 2 }, grid = loadGrid(160, shape), size = 3, domains = 2;
  assert.deepEqual(grid, { left: 88, top: 16, gap: 4, cell: 10, row: 22 });
  assert.deepEqual([loadHeight(grid, 2, 1), loadHeight(grid, 2, 2)], [16 + 44 + 30, 16 + 44 + 20 + 36 + 30]);
  const width = 160, height = loadHeight(grid, 2, domains), cells = [];
  for (let expert = 0; expert < 6; expert++) {
    const x = 88 + 10 * expert + (expert > 2 ? 4 : 0), wide = expert === 5 ? width : expert === 2 ? 14 : 10;
    assert.equal(expertLeft(grid, size, expert), x);
    for (const layer of [0, 1]) cells.push({ x, y: 16 + 22 * layer, wide, high: 22, what: { expert, layer } });
    for (const domain of [0, 1]) cells.push({ x, y: 80 + 18 * domain, wide, high: 18, what: { expert, domain } });
  }
  assert.deepEqual([domainTop(grid, 2), DOMAIN], [80, 18]);
  const raster = painted(width, height, cells);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) assert.deepEqual(loadAt(grid, shape, domains, [x + 0.5, y + 0.5]), raster[y][x], `${x} ${y}`);
  assert.equal(loadAt(grid, shape, 1, [100, 90]), null); // a single text has no row of its own
});

test("keys go along the tokens, the experts and the layers, and no further", () => {
  const shape = { count: 40, layers: 3, experts: 12 }, now = { token: 3, layer: 1, expert: -1 };
  const tokens = (key, at = now) => selectedBy(key, "token", at, shape), experts = (key, at = now) => selectedBy(key, "expert", at, shape);
  assert.deepEqual(tokens("ArrowRight"), { layer: 1, token: 4 });
  assert.deepEqual(tokens("ArrowDown"), { layer: 2 });
  assert.deepEqual(tokens("ArrowUp", { ...now, layer: 0 }), { layer: 0 });
  assert.deepEqual([tokens("Home"), tokens("End")], [{ layer: 1, token: 0 }, { layer: 1, token: 39 }]);
  assert.deepEqual(tokens("ArrowLeft", { ...now, token: -1 }), { layer: 1, token: 0 });
  assert.deepEqual(experts("ArrowRight"), { layer: 1, expert: 0 });
  assert.deepEqual(experts("ArrowLeft", { ...now, expert: 0 }), { layer: 1, expert: 0 });
  assert.deepEqual(experts("ArrowDown"), { layer: 2, expert: -1 }); // none stays none
  assert.deepEqual(experts("Escape"), { token: -1, expert: -1 });
  assert.equal(tokens("a"), null);
});

test("the lines at the top say what is there, what is missing, and what is selected", () => {
  const data = tokens(), all = new Counts(data, ALL, true), verse = new Counts(data, { ...ALL, domain: "verse" }, true);
  assert.equal(titleOf(data), "Expert routing of tiny");
  assert.equal(summaryOf(data), "4 tokens · 2 layers · 4 experts in 2 groups · 2 texts");
  assert.equal(warningOf(["router_scale"]), "This trace has no router_scale.");
  assert.equal(warningOf(["router_logits", "chosen_logprobs"]), "This trace has no router_logits, no chosen_logprobs: choices and loads are shown, probabilities, margins and entropy, surprisal are not.");
  assert.equal(readoutOf(data, all, { token: -1, layer: 1, expert: -1 }), "layer 1");
  assert.equal(readoutOf(data, all, { token: 3, layer: 1, expert: 2 }), "sums, token 1 “<0x41>” · layer 1 · expert 2 (group 1): 2 of 4 tokens, 50.0 %; uniform routing 50.0 %: within chance");
  assert.equal(readoutOf(data, verse, { token: 0, layer: 0, expert: 0 }), "verse, token 0 “To” · layer 0 · expert 0 (group 0): 2 of 2 tokens, 100.0 %; others 0.0 %: within chance");
});
