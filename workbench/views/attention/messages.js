/**
 * Messages from Python: the text, more of it, queries and keys of a head, small maps, what a saved page lacks.
 *
 * {kind: "attention", model, other, shared, pieces, spans, turns, layers, heads, key_heads, error};
 * `model` and `other` are names that tell two precisions of one model apart.
 * {kind: "head", trace, layer, head, tokens, half, size, sink} with query and key [token, head_dim]
 * (float16 if half, else float32), log totals [token] float32 and, of a text over 128 tokens, the
 * strongest and (if size is not 1) the mean weights of blocks of size × size tokens without the first
 * `sink`, lower triangle row by row, float16;
 * {kind: "more", pieces, span, turns, layer, head, start, half}: new tokens, and their query, key, log
 * totals in the head that is shown;
 * {kind: "thumbnails", layer, head, heads, tokens, size, every, …} with [head, cell] of the lower
 * triangle, 255 √weight, or signed 127 √difference.
 * {kind: "absent", asked}: a saved page does not hold the answer.
 *
 * Messages to Python, besides those of all views: {kind: "want"}, {kind: "stop"},
 * {kind: "head", trace, layer, head}; trace 1 is the other one;
 * {kind: "thumbnails", layer, head, blocks, sink, difference}: from that head on.
 */
import { headName } from "./head_store.js";
import { Head } from "./weights.js";

/** @typedef {import("./state.js").State} State */

/**
 * @param {State} state
 * @param {object} parts
 * @param {import("./head_requests.js").HeadRequests} parts.requests
 * @param {import("./small_map_store.js").SmallMapStore} parts.store  of small maps
 * @param {{paint: (index: number) => void}} parts.small  small maps
 * @param {{forget: () => void}} parts.large  map
 * @param {{show: (from?: number) => void}} parts.words  text
 * @param {{fill: () => void}} parts.controls
 * @param {() => void} parts.askForSmallMaps  that are still to come
 * @param {(...what: string[]) => void} parts.drawNow
 */
export function messages(state, { requests, store, small, large, words, controls, askForSmallMaps, drawNow }) {
  const { root } = state;

  /** @param {import("./state.js").Text} content */
  function takeText(content) {
    const before = state.text;
    state.text = content;
    describe(content);
    const same = before && before.count === content.count && before.model === content.model;
    if (!same) {
      state.store.clear();
      store.clear();
      large.forget();
      requests.asked = null;
    }
    state.hover = null;
    if (state.model.holds) state.store.held = heldBy(state);
    controls.fill();
    words.show();
    drawNow("all");
    if (!content.count) root.dataset.ready = "true";
  }

  function takeMore(content, buffers) {
    const { text } = state, { start } = content;
    if (start > text.count) state.page.send({ kind: "want" }); // something was missed
    if (start !== text.count) return;
    text.pieces.push(...content.pieces);
    text.turns = content.turns;
    const last = text.spans.at(-1), end = start + content.pieces.length;
    if (last?.kind === content.span) last.end = end;
    else text.spans.push({ kind: content.span, start, end });
    describe(text);
    const name = headName(0, content.layer, content.head), head = state.store.heads.get(name);
    if (head && head.tokens === start) head.append(content, buffers);
    else if (!start) state.keep(name, new Head(content, buffers));
    words.show(start);
    root.dataset.tokens = String(text.count);
    state.schedule("all");
  }

  function takeHead(content, buffers) {
    const name = headName(content.trace, content.layer, content.head), head = new Head(content, buffers);
    if (requests.asked === name) requests.asked = null;
    state.keep(name, head);
    if (state.text.count > head.tokens && !state.model.get("running") && !content.trace) state.store.heads.delete(name); // the text has grown since
    drawNow(...(state.wanted().includes(name) ? ["map"] : []));
  }

  function takeSmallMaps(content, buffers) {
    const came = store.take(content, buffers);
    if (came) {
      came.forEach(small.paint);
      root.dataset.complete = String(!store.missing.size);
      state.schedule("grid");
    }
    askForSmallMaps();
  }

  function takeAbsent({ asked }) {
    if (asked.kind === "head") {
      requests.asked = null;
      state.store.absent.add(headName(asked.trace, asked.layer, asked.head));
      drawNow("map");
    } else if (asked.kind === "thumbnails") {
      store.takeAbsent(asked);
      state.schedule("grid");
    }
  }

  return (content, buffers) => {
    if (content.kind === "attention") takeText(content);
    else if (!state.text) return; // what another display of the widget asked for
    else if (content.kind === "more") takeMore(content, buffers);
    else if (content.kind === "head") takeHead(content, buffers);
    else if (content.kind === "thumbnails") takeSmallMaps(content, buffers);
    else if (content.kind === "absent") takeAbsent(content);
  };
}

/** Count a text's tokens, and tell of each what stretch it is in. @param {import("./state.js").Text} text */
function describe(text) {
  text.count = text.pieces.length;
  text.kinds = new Array(text.count).fill("prompt");
  for (const span of text.spans) text.kinds.fill(span.kind, span.start, span.end);
}

/** Names of the heads that a saved page holds. @param {State} state */
function heldBy(state) {
  const { layers } = state.text, held = new Set();
  for (const trace of [0, 1]) for (const layer of layers) for (const head of state.headNumbers()) {
    if (state.model.holds({ kind: "head", trace, layer, head })) held.add(headName(trace, layer, head));
  }
  return held;
}
