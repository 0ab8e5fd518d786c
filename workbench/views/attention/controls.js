/** The lines at the top: what is shown, menus of its settings, and what there is to say about it. */
import { element } from "../shared/dom.js";
import { counted } from "../shared/values.js";
import { labelledMenu } from "./menu.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./menu.js").Menu} Menu */

/** @param {State} state */
export function controlLines(state) {
  const { model, page } = state;
  const title = element("span", "title"), about = element("span", "soft"), doing = element("span", "soft"), stop = element("button", "plain", "Stop");
  stop.addEventListener("click", () => page.send({ kind: "stop" }));
  const menus = {
    layer: labelledMenu("layer", (value) => page.set({ layer: Number(value) })),
    head: labelledMenu("head", (value) => page.set({ head: Number(value) })),
    scale: labelledMenu("colours", (value) => page.set({ scale: /** @type {import("./colours.js").Scale} */ (value) })),
    blocks: labelledMenu("blocks show", (value) => page.set({ blocks: /** @type {"max"|"mean"} */ (value) }), "blocks show: how the weights of several tokens are combined"),
    compare: labelledMenu("subtract", (value) => page.set({ compare: /** @type {"none"|"head"|"trace"} */ (value) }), "subtract: what is subtracted from the head’s weights"),
    other_layer: labelledMenu("layer", (value) => page.set({ other_layer: Number(value) }), "layer of the subtracted head"),
    other_head: labelledMenu("head", (value) => page.set({ other_head: Number(value) }), "subtracted head"),
  };
  menus.scale.fill([["linear", "linear"], ["log", "logarithmic"], ["row", "per row"]]);
  menus.blocks.fill([["max", "strongest weight"], ["mean", "mean weight"]]);
  /** @type {HTMLInputElement} */
  const apart = element("input"), apartWords = element("span");
  let usualSink = 1; // what the box sets when it is ticked
  apart.type = "checkbox";
  apart.addEventListener("change", () => page.set({ sink: apart.checked ? Math.max(1, usualSink) : 0 }));
  const problem = element("div", "problem");
  const lines = [
    element("div", "bar", title, about, doing, stop),
    element("div", "bar", menus.layer.holder, menus.head.holder, menus.scale.holder, menus.blocks.holder, element("label", "", apart, " ", apartWords), menus.compare.holder, menus.other_layer.holder, menus.other_head.holder),
    problem,
  ];

  /** Offer what a text's model has. */
  function fill() {
    const { text } = state;
    /** @returns {import("./menu.js").Entry[]} */
    const numbers = (all) => all.map((n) => [n, n]);
    for (const name of ["layer", "other_layer"]) menus[name].fill(numbers(text.layers));
    for (const name of ["head", "other_head"]) menus[name].fill(numbers(state.headNumbers()));
    /** @type {import("./menu.js").Entry[]} */
    const other = text.other ? [["trace", text.other]] : [];
    menus.compare.fill([["none", "nothing"], ["head", "another head"], ...other]);
    title.textContent = `Attention of ${text.model}`;
  }

  /** Follow the traits. */
  function follow() {
    for (const [name, { select }] of Object.entries(menus)) select.value = String(model.get(/** @type {keyof typeof menus} */ (name)));
    if (state.store.held) {
      closeAbsent(menus.layer, menus.head, model.get("layer"), (layer, head) => state.canOpen(layer, head));
      closeAbsent(menus.other_layer, menus.other_head, model.get("other_layer"), (layer, head) => state.canSubtract(layer, head));
    }
    menus.other_layer.holder.hidden = menus.other_head.holder.hidden = model.get("compare") !== "head";
    const sink = model.get("sink");
    if (sink > 0) usualSink = sink;
    apart.checked = sink > 0;
    apartWords.textContent = usualSink === 1 ? "first token separately" : `first ${usualSink} tokens separately`;
    stop.hidden = !model.get("running");
    const said = problems();
    problem.hidden = !said.length;
    problem.textContent = said.join(" ");
    about.textContent = size();
  }

  /**
   * Entries of menus that a saved page does not hold cannot be chosen.
   * @param {Menu} layers
   * @param {Menu} heads
   * @param {number} layer  that is chosen
   * @param {(layer: number, head: number) => boolean} isHeld
   */
  function closeAbsent(layers, heads, layer, isHeld) {
    for (const option of layers.select.options) option.disabled = !state.headNumbers().some((head) => isHeld(Number(option.value), head));
    for (const option of heads.select.options) option.disabled = !isHeld(layer, Number(option.value));
  }

  function problems() {
    const { text } = state, compare = model.get("compare"), said = [];
    if (text.error) said.push(text.error);
    if (compare === "head" && state.mine() === state.theirs()) said.push("This subtracts a head from itself: choose another head.");
    if (compare === "trace" && text.shared < text.count) said.push(`Only the first ${text.shared} tokens are the same in both traces; later rows are not compared.`);
    return said;
  }

  function size() {
    const { count, layers, heads, key_heads } = state.text;
    if (!count) return "waiting for the first tokens …";
    return `${counted(count)} · ${counted(layers.length, "layer")} × ${counted(heads, "head")}${key_heads < heads ? `, ${key_heads} key–value heads per layer` : ""}${model.get("running") ? " · generating …" : ""}`;
  }

  /** Say what a model does meanwhile, where a token takes long. */
  function tellDoing() { doing.textContent = model.get("doing"); }
  tellDoing();

  return { elements: lines, fill, follow, tellDoing };
}
