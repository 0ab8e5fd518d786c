/**
 * Heads by a score: a map of layers × heads, a ranking, and every score of the selected head. Here the parts
 * are put together, and Python is heard.
 *
 * @typedef Model
 * @property {number} layer     selected layer
 * @property {number} head      selected head
 * @property {string} score     what the colours tell
 * @property {boolean} relative  colours by the share of the way from chance to 1
 * @property {"model"|"score"} layer_order  rows by number, or the highest score first
 * @property {"model"|"score"} head_order   columns by number, or in each layer the highest first
 * @property {boolean} tagged_only  leave heads out that are not tagged with the score
 *
 * Message to Python, besides those of all views: {kind: "want"}.
 * Message from Python: {kind: "heads", model, tokens, texts, layers, heads, kv_heads, measures} with
 * measures as in scores.js; values [measure, layer, head] float32, chances [pattern, layer, head] float32 and
 * tags [pattern, layer, head] uint8; patterns come first.
 */
import { element, rootOf, tellGone } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { controls } from "./controls.js";
import { headCard } from "./head_card.js";
import { headMap } from "./head_map.js";
import { widestMap } from "./map_grid.js";
import { numberTable } from "./number_table.js";
import { ranking } from "./ranking.js";
import { Scores } from "./scores.js";
import { State } from "./state.js";
import { meaningWords, readingWords, sizeWords } from "./words.js";

const BESIDE = 700; // pixels that the card and the ranking need beside the map
const SHORT = 11; // layers of a map under which there is room for the card

function render({ model, el }) {
  const root = rootOf(el, "pw-heads"), page = talk(model, () => tellGone(root)), spoken = element("div", "spoken");
  spoken.setAttribute("aria-live", "polite");
  const state = new State(model, page, (spot) => { spoken.textContent = readingOf(spot); });

  const title = element("div", "row"), meaning = element("p", "soft meaning"), reading = element("p", "reading");
  const map = headMap(state, root, (spot) => { state.hover = spot; drawMap(); drawReading(); });
  const best = ranking(state, map.canvas), card = headCard(state), numbers = numberTable(state, map.canvas), choices = controls(state, numbers.toggle);
  const left = element("div", "", element("div", "stage", map.canvas), reading), right = element("div", "", best.element, card.element);
  const panes = element("div", "two", left, right);
  root.append(title, choices.element, meaning, panes, numbers.element, spoken);

  /** The card stands where there is room: beside the map, under it, or under the ranking. */
  function arrange() {
    const widest = widestMap(state.scores, state.get("head_order") === "score"), isBeside = widest + BESIDE < root.clientWidth;
    panes.style.gridTemplateColumns = isBeside ? `${widest}px auto auto 1fr` : "";
    if (isBeside) panes.insertBefore(card.element, right);
    else (state.scores.layers.length < SHORT ? left : right).append(card.element);
  }
  function drawMap() {
    if (!state.scores || !root.clientWidth) return;
    arrange();
    map.draw(left.clientWidth);
  }
  const readingOf = (spot) => (spot ? readingWords(state.scores, state.shown().place, spot) : "");
  function drawReading() { reading.textContent = readingOf(state.hover || state.selected()); }
  function draw() {
    if (!state.scores) return;
    const { measure } = state.shown();
    choices.draw();
    meaning.textContent = meaningWords(measure);
    drawMap();
    drawReading();
    best.draw();
    card.draw();
    numbers.draw();
    root.dataset.shown = `${state.get("layer")}/${state.get("head")}/${measure.name}`;
  }

  page.on("msg:custom", (content, buffers) => {
    if (content.kind !== "heads" || state.scores) return; // another display of this widget asked
    state.scores = new Scores(content, buffers);
    title.replaceChildren(element("span", "title", `Heads of ${state.scores.model}`), element("span", "soft", sizeWords(state.scores)));
    choices.build();
    draw();
    root.dataset.ready = "true";
  });
  page.on(["change:layer", "change:head", "change:score", "change:relative", "change:layer_order", "change:head_order", "change:tagged_only"], draw);
  const seen = new IntersectionObserver(drawMap), sized = new ResizeObserver(drawMap);
  seen.observe(map.canvas); // JupyterLab blanks a canvas that is scrolled away
  sized.observe(root);
  page.atEnd(() => { seen.disconnect(); sized.disconnect(); });
  page.onTheme(drawMap);
  return page.begin();
}

export default { render };
