/** What the playground's script works out without drawing: words, colours, corrected steps, what is typed. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hintWords } from "../../workbench/views/playground/alternatives.js";
import { typedNumber } from "../../workbench/views/playground/fields.js";
import { colourClass, colourLegend, surprisal } from "../../workbench/views/playground/token_colours.js";
import { Typing } from "../../workbench/views/playground/typing.js";
import {
  beginning, bitsOrUnknown, branchTitle, contextWords, escaped, grouped, linesOf, percent, readsWords, shorten, spelledWords,
  statusWords, stringsOf, thinkingWords, unescaped, unusualSettings, visible, withSign,
} from "../../workbench/views/playground/words.js";
import { sortedSteps } from "../../workbench/views/shared/tokens.js";

const step = (more) => ({ id: 7, piece: "a", text: "a", cut: "", span: "answer", logprob: -0.5, entropy: 1.25, given: false, others: [], ...more });

describe("numbers", () => {
  it("a probability in percent, however small, and where it is not known", () => {
    assert.equal(percent(0), "100.0 %");
    assert.equal(percent(-0.5), "60.7 %");
    assert.equal(percent(Math.log(0.0005)), "0.1 %");
    assert.equal(percent(Math.log(0.0004)), "< 0.1 %");
    assert.equal(percent(-Infinity), "0.0 %");
    assert.equal(percent(null), "–");
    assert.equal(percent(undefined), "–");
  });
  it("bits, thousands and signs", () => {
    assert.equal(bitsOrUnknown(1.25), "1.25 bits");
    assert.equal(bitsOrUnknown(0), "0.00 bits");
    assert.equal(bitsOrUnknown(null), "unknown");
    assert.equal(grouped(1234567), "1,234,567");
    assert.deepEqual([2.5, 0, -100].map(withSign), ["+2.5", "0", "-100"]);
  });
});

describe("texts", () => {
  it("are shortened by characters, not by code units", () => {
    assert.equal(shorten("床前明月光", 5), "床前明月光");
    assert.equal(shorten("床前明月光", 3), "床前明…");
    assert.equal(shorten("😀😀😀", 2), "😀😀…");
  });
  it("what cannot be seen stands there by name", () => {
    assert.equal(visible(" a"), "“ a”");
    assert.equal(visible("a\n\tb"), "“a\\n\\tb”");
    assert.equal(visible("\u202eright"), "“\\u202eright”");
    assert.equal(visible("\x00\x7f\u200b\ufeff"), "“\\u0000\\u007f\\u200b\\ufeff”");
    assert.equal(visible("a\\b"), "“a\\b”");
    assert.equal(visible("\ud83d"), "“\ud83d”"); // half of a surrogate pair
  });
  it("stop strings are typed in lines and come back the same", () => {
    assert.equal(escaped("a\nb\tc\\n"), "a\\nb\\tc\\\\n");
    assert.equal(unescaped("a\\nb\\tc\\\\n"), "a\nb\tc\\n");
    assert.equal(unescaped("\\x"), "\\x");
    assert.equal(linesOf(["END", "\n\n"]), "END\n\\n\\n");
    assert.deepEqual(stringsOf("END\n\n\\n\\n"), ["END", "\n\n"]);
    for (const text of ["\\n", "\n", "\\\\", "a\\\tb"]) assert.equal(unescaped(escaped(text)), text);
  });
});

describe("what the model reads", () => {
  it("says how long it is and what an edit does", () => {
    assert.equal(readsWords({ count: 2048, raw: false }), "2,048 tokens. Editing here switches to raw text.");
    assert.equal(readsWords({ count: null, raw: false, missing: "The server does not send it." }), "The server does not send it.");
    assert.equal(
      readsWords({ count: 0, raw: true, missing: "The server does not send it." }),
      "0 tokens. Raw text: names such as [unused9] are special tokens; the conversation is ignored.",
    );
  });
  it("names special tokens in the conversation", () => {
    assert.equal(spelledWords(["[unused10]"]), "“[unused10]” in the conversation is read as plain text, not as a special token. In raw text (after an edit here) it becomes the special token.");
    assert.match(spelledWords(["<s>", "[unused10]"]), /^“<s>”, “\[unused10\]” in the conversation are read .* not as special tokens.* they become the special tokens\.$/);
  });
});

describe("settings", () => {
  const usual = { top_p: 0.95, top_k: 50, min_p: 0, repetition_penalty: 1 };
  const now = { ...usual, preset: "", stop_strings: [], logit_bias: [] };
  it("that are folded away and not usual are named, but not a preset's", () => {
    assert.deepEqual(unusualSettings(now, usual), []);
    assert.deepEqual(unusualSettings({ ...now, top_p: 0.5, top_k: 0 }, usual), ["top-p 0.5", "top-k 0"]);
    assert.deepEqual(unusualSettings({ ...now, top_p: 0.5, preset: "mine" }, usual), []);
    assert.deepEqual(unusualSettings({ ...now, top_p: 0.5 }, null), []); // nothing was told yet
    assert.deepEqual(unusualSettings({ ...now, preset: "mine", stop_strings: ["x"], logit_bias: [[5, 1], [6, 1]] }, usual), ["1 stop string", "2 logit biases"]);
  });
  it("a number is taken, or refused in a sentence, or was not typed", () => {
    assert.deepEqual(typedNumber("top-p", "0.5", false), { value: 0.5, refused: "" });
    assert.deepEqual(typedNumber("top-p", "", false), { refused: "" });
    assert.deepEqual(typedNumber("top-p", "many", false), { refused: "" });
    assert.deepEqual(typedNumber("seed", "-9007199254740991", true), { value: -9007199254740991, refused: "" });
    assert.deepEqual(typedNumber("seed", "", true), { refused: "" });
    assert.deepEqual(typedNumber("seed", "1.5", true), { refused: "seed 1.5: expected a whole number." });
    assert.match(typedNumber("seed", "9007199254740993", true).refused, /^seed 9007199254740993: this page can only handle whole numbers up to 9,007,199,254,740,991\./);
  });
  it("what is typed is sent together, once", () => {
    const sent = [], area = new EventTarget(), other = new EventTarget();
    const typing = new Typing((values) => sent.push(values));
    typing.watch(area, "prompt", () => "Hello");
    typing.watch(other, "system", () => "Be brief.");
    area.dispatchEvent(new Event("input"));
    other.dispatchEvent(new Event("input"));
    assert.deepEqual([typing.has("prompt"), typing.has("text")], [true, false]);
    assert.deepEqual(sent, []);
    area.dispatchEvent(new Event("change"));
    assert.deepEqual(sent, [{ prompt: "Hello", system: "Be brief." }]);
    assert.equal(typing.has("prompt"), false);
    typing.send();
    assert.equal(sent.length, 1);
  });
});

describe("colours", () => {
  it("a bit is a half", () => {
    assert.equal(surprisal({ logprob: Math.log(0.5) }), 1);
    assert.equal(surprisal({ logprob: -0 }), 0);
    assert.equal(surprisal({ logprob: null }), null);
  });
  it("of the probability: 90, 50, 20 and 5 %", () => {
    const classOf = (share) => colourClass(step({ logprob: Math.log(share) }), "probability");
    assert.deepEqual([1, 0.91, 0.89, 0.51, 0.49, 0.21, 0.19, 0.06, 0.04, 1e-9].map(classOf), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
  });
  it("of surprisal and entropy: ½, 1, 2 and 4 bits", () => {
    const bits = [0, 0.49, 0.5, 1, 1.99, 2, 4, 20];
    assert.deepEqual(bits.map((value) => colourClass(step({ entropy: value }), "entropy")), [0, 0, 1, 2, 2, 3, 4, 4]);
    assert.deepEqual([0.8, 0.6, 0.4, 0.2, 0.05].map((share) => colourClass(step({ logprob: Math.log(share) }), "surprisal")), [0, 1, 2, 3, 4]);
  });
  it("none where none are wanted, or nothing is known", () => {
    assert.equal(colourClass(step({ logprob: -9 }), "none"), 0);
    assert.equal(colourClass(step({ logprob: null }), "probability"), 0);
    assert.equal(colourClass(step({ entropy: null }), "entropy"), 0);
  });
  it("have a legend of five", () => {
    assert.deepEqual(colourLegend("probability"), ["90 % or more", "50–90 %", "20–50 %", "5–20 %", "under 5 %"]);
    assert.deepEqual(colourLegend("entropy"), ["under 0.5 bits", "0.5–1", "1–2", "2–4", "4 or more"]);
    assert.deepEqual(colourLegend("surprisal"), colourLegend("entropy"));
    assert.deepEqual(colourLegend("none"), []);
  });
});

describe("steps that come", () => {
  const known = [step({ text: "12" }), step({ text: "" }), step({ text: ", wr" })];
  it("are new after the last one", () => {
    const fresh = [step({ text: " car" })];
    assert.deepEqual(sortedSteps(known, 3, fresh), { changed: [], fresh });
    assert.deepEqual(sortedSteps([], 0, fresh), { changed: [], fresh });
  });
  it("correct those that are there where their text is another one", () => {
    const mended = [step({ text: "," }), step({ text: " wr" }), step({ text: "", cut: " car" })];
    assert.deepEqual(sortedSteps(known, 1, mended), { changed: [[1, mended[0]], [2, mended[1]]], fresh: [mended[2]] });
    assert.deepEqual(sortedSteps(known, 0, [step({ text: "12", cut: "2" })]).changed.map(([place]) => place), [0]);
  });
  it("change nothing where they are the same", () => {
    assert.deepEqual(sortedSteps(known, 0, known), { changed: [], fresh: [] });
  });
  it("are not taken where some were missed", () => {
    assert.equal(sortedSteps(known, 4, [step({})]), null);
  });
});

describe("how it went", () => {
  it("is said with what is known", () => {
    assert.equal(statusWords({}, false, false), "");
    assert.equal(statusWords({ doing: "reading the prompt" }, true, false), "reading the prompt");
    const now = { tokens: 1234, speed: 12.34, seconds: 2, memory_gb: 1.5, reason: "max tokens reached" };
    assert.equal(statusWords(now, false, false), "1,234 new tokens · 12.3 tokens/s · 2.0 s including the prompt · memory 1.50 GB · max tokens reached");
    assert.equal(statusWords({ ...now, seconds: undefined }, true, false), "1,234 new tokens · 12.3 tokens/s · memory 1.50 GB");
    assert.equal(statusWords({ tokens: 2, speed: null, memory_gb: null }, false, true), "2 new tokens · memory: on the server");
  });
  it("the context and thinking are counted", () => {
    assert.equal(contextWords(68, 2048), "context 68 of 2,048 ");
    assert.equal(contextWords(1068, 0), "context 1,068 tokens");
    assert.equal(thinkingWords(1, false), "thinking, 1 token ▾");
    assert.equal(thinkingWords(35, true), "thinking, 35 tokens ▸");
  });
});

describe("branches", () => {
  it("show how their text begins, in one line", () => {
    assert.equal(beginning("\n four"), "four");
    assert.equal(beginning(`<b>床前明月光</b>\n\u202e${"x".repeat(47)}`), `<b>床前明月光</b>  ${"x".repeat(10)}…`);
  });
  it("are called with the token where they leave", () => {
    const node = { id: 1, name: "not at 14", at: 14, depth: 1, preview: " not" };
    assert.equal(branchTitle(node), "not at 14, from token 14:  not");
    assert.equal(branchTitle({ ...node, name: "prompt 1", at: null }), "prompt 1:  not");
    assert.equal(branchTitle({ ...node, at: 0 }), "not at 14, from token 0:  not");
  });
  it("say what one can do with alternatives", () => {
    const now = { held: true, running: false, cannot: "", any: true, unfiltered: false };
    assert.equal(hintWords(now), "Choose one to branch from here.");
    assert.equal(hintWords({ ...now, any: false }), "");
    assert.equal(hintWords({ ...now, held: false }), "Choose one to branch from here; click the token for more.");
    assert.equal(hintWords({ ...now, running: true }), "To branch from here, stop the generation or let it end.");
    assert.equal(hintWords({ ...now, running: true, cannot: "This server cannot." }), "This server cannot.");
    assert.equal(hintWords({ ...now, unfiltered: true }), "From the history, which keeps the most probable tokens but not their probabilities after the filters. Choose one to branch from here.");
  });
});
