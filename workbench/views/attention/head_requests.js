/** Asks Python for the heads that are shown and not here, one after the other. */
import { headOfName } from "./head_store.js";

const PATIENCE = 150; // milliseconds that the map of the last head stays while the next one comes

export class HeadRequests {
  /** @param {import("./state.js").State} state */
  constructor(state) {
    this.state = state;
    /** @type {string|null} Name of the head that Python works at. */
    this.asked = null;
    this.patience = 0; // until when it is waited for
  }

  /** Whether the last head is still to be shown. */
  get patient() { return this.asked !== null && performance.now() < this.patience; }

  ask() {
    const { state } = this;
    for (const name of state.wanted()) {
      if (state.found(name) || state.store.absent.has(name) || this.asked) continue;
      const [trace, layer, head] = headOfName(name);
      this.asked = name;
      this.patience = performance.now() + PATIENCE;
      setTimeout(() => { if (this.asked === name) state.schedule("map"); }, PATIENCE);
      state.page.send({ kind: "head", trace, layer, head });
    }
  }
}
