/** What the page asks for when it is looked at: weights of a layer, probabilities of a block of tokens. */
import { asFloat32 } from "../shared/values.js";

const key = (question) => `${question.kind} ${question.layer} ${question.block ?? ""}`;

export class Details {
  /** @param {(question: object) => void} send  asks Python */
  constructor(send) {
    this.sendQuestion = send;
    this.clear();
  }

  /** Forget everything: other tokens have come. @param {import("./tokens.js").Tokens} [data] */
  clear(data) {
    this.data = data;
    this.layers = new Map();
    this.blocks = new Map();
    this.pending = new Set();
    this.absent = new Set();
    this.wanted = new Map();
    clearTimeout(this.timer);
    this.sent ??= 0;
  }

  /** A drawing begins: what the last one missed is not wanted any longer. */
  begin() { this.wanted = new Map(); }

  ask(question) { this.wanted.set(key(question), question); }

  /** Ask for what the last drawing missed: at rest, a few at a time, and not at every new token. */
  settle(hovering, running) {
    clearTimeout(this.timer);
    const wait = Math.max(hovering ? 80 : 0, running ? 400 - (performance.now() - this.sent) : 0);
    if (wait > 0) this.timer = setTimeout(() => this.send(), wait);
    else this.send();
  }

  send() {
    for (const [name, question] of this.wanted) {
      if (this.pending.has(name) || this.absent.has(name) || this.pending.size > 3) continue;
      this.pending.add(name);
      this.sent = performance.now();
      this.sendQuestion(question);
    }
  }

  /** Take an answer; of what is absent, `content.asked` is the question. */
  take(content, buffers) {
    const question = content.asked ?? content;
    this.pending.delete(key(question));
    if (content.kind === "absent") this.absent.add(key(question));
    else if (content.kind === "layer") {
      const [weights, entropy, margins] = buffers.map(asFloat32);
      this.layers.set(content.layer, { weights, entropy, margins, tokens: Math.max(weights.length, margins.length) / this.data.slots || this.data.count });
    } else this.blocks.set(`${content.layer} ${content.block}`, asFloat32(buffers[0]));
  }

  /** Weights, entropies and margins of a layer, as far as they are here. */
  ofLayer(layer) {
    const got = this.layers.get(layer);
    if (!got || got.tokens < this.data.count) this.ask({ kind: "layer", layer });
    return got || { tokens: 0 };
  }

  weight(layer, token, slot) { const got = this.ofLayer(layer); return token < got.tokens && got.weights.length ? got.weights[token * this.data.slots + slot] : NaN; }
  margin(layer, token, slot) { const got = this.ofLayer(layer); return token < got.tokens && got.margins.length ? got.margins[token * this.data.slots + slot] : NaN; }

  /** Probabilities of all experts for a token, or null. */
  probabilities(layer, token) {
    const { data } = this, block = Math.floor(token / data.block), got = this.blocks.get(`${layer} ${block}`), place = token % data.block;
    if (!got || (got.length && got.length < (place + 1) * data.experts)) { this.ask({ kind: "block", layer, block }); return null; }
    return got.length ? got.subarray(place * data.experts, (place + 1) * data.experts) : null;
  }

  /** Whether a saved page does not hold the probabilities of a token. */
  lacks(layer, token) { return this.absent.has(`block ${layer} ${Math.floor(token / this.data.block)}`); }
}
