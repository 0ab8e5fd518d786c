/**
 * The small maps of all heads that came, and which are to be asked for: one layer's at a time, those near the
 * layer that is shown first. They belong to a round: when their settings change, or the text has grown enough,
 * another round begins, and maps of the last one stay until their successors come.
 */
import { copied } from "../shared/values.js";

/** @typedef {import("./state.js").State} State */

/**
 * @typedef SmallMap
 * @prop {Uint8Array|Int8Array} values  lower triangle row by row: 255 √weight, or signed 127 √difference
 * @prop {number} side  blocks
 * @prop {boolean} difference
 * @prop {object} round  that it came in
 *
 * @typedef {{blocks: string, sink: number, difference: boolean}} Settings
 */

/** @param {Settings} settings */
const settingsName = ({ blocks, sink, difference }) => `${blocks} ${sink} ${difference}`;
const placeName = (layer, head) => `${layer}/${head}`;

export class SmallMapStore {
  /** @param {State} state */
  constructor(state) {
    this.state = state;
    this.clear();
  }

  clear() {
    /** @type {Map<number, SmallMap>} layer * heads + head → map */
    this.maps = new Map();
    /** What Python said of the maps that came last. */
    this.told = null;
    /** Its settings, the length of the text at its last answer, whether this page has none. */
    this.round = { wanted: "", count: 0, absent: false };
    /** @type {Set<string>} "layer/head" to ask from. */
    this.missing = new Set();
    /** @type {string|null} What Python works at. */
    this.asked = null;
  }

  index(layer, head) { return layer * this.state.text.heads + head; }

  /** Ask for the next ones that miss, unless Python works for the view already. */
  ask(busy) {
    const { state, asked } = this, { model, text } = state;
    const settings = { blocks: model.get("blocks"), sink: model.get("sink"), difference: model.get("compare") === "trace" }, wanted = settingsName(settings);
    const { count } = this.round, grown = count && (text.count >= 1.25 * count || (!model.get("running") && text.count > count));
    if (wanted !== this.round.wanted || (grown && !asked)) {
      this.round = { wanted, count: 0, absent: false };
      this.missing = new Set(text.layers.map((layer) => placeName(layer, 0)));
    }
    if (asked || busy || !this.missing.size) return;
    const far = (name) => Math.abs(Number(name.split("/")[0]) - model.get("layer"));
    const next = [...this.missing].reduce((best, name) => (far(name) < far(best) ? name : best));
    const [layer, head] = next.split("/").map(Number);
    this.missing.delete(next);
    this.asked = this.#question({ layer, head, ...settings });
    state.page.send({ kind: "thumbnails", layer, head, ...settings });
  }

  #question(maps) { return `${placeName(maps.layer, maps.head)} ${settingsName(maps)}`; }

  /**
   * Keep the maps of a message; of several displays of one widget each hears what the others asked for.
   * @returns {number[]|null}  indices of the maps that came, null if they are of other settings
   */
  take(content, buffers) {
    const { text } = this.state, { layer, head, heads, tokens, size, difference } = content;
    if (this.asked === this.#question(content)) this.asked = null;
    if (settingsName(content) !== this.round.wanted) return null;
    const bytes = copied(buffers[0], difference ? Int8Array : Uint8Array), side = Math.ceil(tokens / size), cells = (side * (side + 1)) / 2;
    this.told = content;
    this.round.count = text.count;
    this.missing.delete(placeName(layer, head));
    const came = Array.from({ length: heads }, (_, n) => this.index(layer, head) + n);
    came.forEach((index, n) => this.maps.set(index, { values: bytes.subarray(n * cells, (n + 1) * cells), side, difference, round: this.round }));
    const next = head + heads;
    if (next < text.heads && this.maps.get(this.index(layer, next))?.round !== this.round) this.missing.add(placeName(layer, next));
    return came;
  }

  /** A saved page does not hold the maps of a question. */
  takeAbsent(question) {
    if (this.asked === this.#question(question)) this.asked = null;
    if (settingsName(question) !== this.round.wanted) return;
    this.missing.clear();
    this.round.absent = true;
  }
}
