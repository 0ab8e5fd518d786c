/** The text, shaded by what the token in focus attends to (before it) and by what attends to it (after it). */
import { element } from "../shared/dom.js";
import { limit, quoted } from "../shared/values.js";
import { colourStep } from "./colours.js";
import { largestSize } from "./strongest.js";
import { TokenStrip } from "./token_strip.js";
import { NO_DIFFERENCE, percent } from "./writing.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Profile} Profile */

/** @param {State} state */
export function textPanel(state) {
  const note = element("div", "note soft small");
  const strip = new TokenStrip("tokens; arrow keys move the selection, P pins", {
    onMove: (token) => { if (token !== (state.hover?.token ?? -1)) state.point(token < 0 ? null : { token }); },
    onLeave: () => state.leave(),
    onClick: (token, event) => { if (event.shiftKey) state.pin(token); else state.choose(token); },
    onScroll: () => { if (state.text?.count) state.schedule("scroll"); },
  });

  /** Show tokens from `from` on. */
  function show(from = 0) { strip.show(state.text.pieces, state.text.kinds, from); }

  function draw() {
    strip.mark({ hover: state.pointed(), selected: state.selected(), pinned: state.model.get("pins"), first: state.sink(), follow: !state.hover });
    const profile = state.profile(), tops = profile ? topsOf(profile) : { before: 0, after: 0 };
    const [first, end] = strip.onScreen();
    for (let token = first; token < end; token++) strip.shade(token, profile ? shadeOf(profile, tops, token) : "");
    note.textContent = said(profile, tops).join(" · ");
  }

  /** @param {Profile} profile */
  function topsOf({ row, column }) {
    const token = state.focus();
    return { before: largestSize(row, state.sink(), token + 1), after: largestSize(column, token + 1, state.text.count) };
  }

  /** @param {Profile} profile */
  function shadeOf({ row, column }, { before, after }, token) {
    const difference = state.comparing(), later = token > state.focus(), value = later ? column[token] : row[token], top = later ? after : before;
    const table = difference ? state.theme.difference : later ? state.theme.column : state.theme.row;
    // Few shades, and none below a tenth of the strongest: each change costs the page a style.
    const step = limit(Math.round(colourStep(value, top, difference, state.model.get("scale") === "log" ? "log" : "linear") / 17) * 17, 0, 255);
    if (!top || (difference ? Math.abs(step - 127.5) <= 9 : step <= 17)) return "";
    return `background:${table.css[step]};color:${table.ink[step]}`;
  }

  /** What the shades say. @param {Profile|null} profile */
  function said(profile, { before, after }) {
    const words = [], { text } = state, token = state.focus(), first = state.sink(), difference = state.comparing();
    if (state.withoutDifference()) words.push(NO_DIFFERENCE);
    if (profile) {
      const name = `${state.pointed() >= 0 ? "hovered" : "selected"} token ${token}, ${quoted(text.pieces[token])}`;
      words.push(difference ? `${name}, differences: what it attends to (before it, up to ±${percent(before)}); what attends to it (after it, up to ±${percent(after)})` : `${name}: blue, what it attends to (up to ${percent(before)})`);
      if (!difference && token < text.count - 1) words.push(`orange, what attends to it (up to ${percent(after)})`);
      if (first && !difference) {
        let sum = 0;
        for (let n = 0; n < Math.min(first, token + 1); n++) sum += profile.row[n];
        words.push(`${first === 1 ? "first token" : `first ${first} tokens`}, framed: ${percent(sum)}`);
      }
    }
    if (text.spans.length > 1) words.push("dotted: thinking, solid: answer");
    return words;
  }

  return { strip: strip.element, note, show, draw, resized: () => strip.resized() };
}
