/**
 * Attention: all heads small, one head large, and the text, linked. The page holds the queries and
 * keys of the heads that were looked at last and works out every weight itself (weights.js), so
 * hovering and zooming ask nobody. Moving the pointer shows (a state of this page), a click keeps
 * (a trait).
 *
 * @typedef Model
 * @property {number} layer        of the head shown large
 * @property {number} head         shown large
 * @property {number} token        selected token, -1 for none
 * @property {number[]} pins       tokens whose rows stay below the map
 * @property {number[]} zoom       [first row, end row, first column, end column], or empty
 * @property {"linear"|"log"|"row"} scale  of the colours
 * @property {"max"|"mean"} blocks  what a block of several tokens shows
 * @property {number} sink         so many first tokens stand apart
 * @property {"none"|"head"|"trace"} compare  show a difference
 * @property {number} other_layer  of the head that is subtracted
 * @property {number} other_head   that is subtracted
 * @property {boolean} running     whether a generation fills the view
 * @property {string} doing        what it does meanwhile, where a token takes long
 *
 * The model of a saved page also has holds(question): whether the page has its answer.
 */
import { element, rootOf, tellGone } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { readTheme } from "./colours.js";
import { controlLines } from "./controls.js";
import { gathered } from "./frames.js";
import { HeadRequests } from "./head_requests.js";
import { hearHeadKeys, hearTokenKeys } from "./keyboard.js";
import { largeMap } from "./large_map.js";
import { hearMapPointer } from "./map_pointer.js";
import { messages } from "./messages.js";
import { readingLine } from "./reading.js";
import { SmallMapStore } from "./small_map_store.js";
import { smallMaps } from "./small_maps.js";
import { State } from "./state.js";
import { textPanel } from "./text_panel.js";
import { tokenLists } from "./token_lists.js";

const NARROW = 760; // pixels below which the large map stands under the small ones

function render({ model, el }) {
  const root = rootOf(el, "pw-attention"), page = talk(model, () => tellGone(root)), frames = gathered(draw);
  const state = new State(model, page, root, frames.schedule);
  const requests = new HeadRequests(state), store = new SmallMapStore(state);
  const controls = controlLines(state), reading = readingLine(state);
  const small = smallMaps(state, store), large = largeMap(state);
  const words = textPanel(state), lists = tokenLists(state, words.strip);
  let lastWidth = 0;
  root.append(
    ...controls.elements, reading.element, state.spoken,
    element("section", "", element("div", "panes", small.element, large.element)),
    element("section", "", element("h4", "", "Text"), words.strip, words.note, lists.element), // a note of more lines must not move the text under the pointer
  );
  hearMapPointer(state, large.canvas, large.place);
  hearHeadKeys(state, small.canvas);
  hearTokenKeys(state, large.canvas);
  hearTokenKeys(state, words.strip);

  const askForSmallMaps = () => store.ask(requests.asked !== null);
  function ask() {
    if (!state.text?.count) return;
    requests.ask();
    askForSmallMaps();
  }

  const widthNow = () => Math.floor(root.clientWidth) - 12;
  /** To ask for a size costs a layout: they are measured when the width changes. */
  function measure() {
    lastWidth = widthNow();
    const column = small.measure(lastWidth);
    small.element.style.width = lastWidth < NARROW ? "" : `${column}px`;
    state.room = { left: small.element.clientWidth, right: Math.floor(large.element.clientWidth) };
  }

  /** @param {Set<string>} what  as of `State.schedule` */
  function draw(what) {
    if (!state.text) return;
    if (what.has("theme") || !state.theme) state.theme = readTheme(root);
    const all = what.has("all") || what.has("theme"), scale = what.has("scale"), select = what.has("select");
    if (all || select) {
      controls.follow();
      large.follow();
    }
    if (!state.text.count) return;
    ask();
    if (all) measure();
    if (all || scale) small.paintAll();
    if (all || scale || select || what.has("grid")) small.draw();
    if (!state.pair() && requests.patient) {
      root.dataset.ready = "false";
      return;
    }
    if (all || scale || what.has("map") || !large.place()) {
      large.update();
      lists.draw();
    } else if (select) {
      large.drawOverlay();
      large.drawPins();
      lists.draw();
    } else if (what.has("hover")) large.drawOverlay();
    words.draw();
    reading.draw();
    root.dataset.ready = String(state.pair() !== null || large.saysMissing());
    root.dataset.token = String(state.selected());
  }

  page.on("msg:custom", messages(state, { requests, store, small, large, words, controls, askForSmallMaps, drawNow: frames.now }));
  page.on(["change:token", "change:pins"], () => state.schedule("select"));
  page.on(["change:layer", "change:head", "change:compare", "change:other_layer", "change:other_head"], () => {
    large.forget();
    state.schedule("select", "map");
    queueMicrotask(ask); // layer and head change together
  });
  page.on(["change:zoom", "change:sink", "change:blocks"], () => state.schedule("map", "select"));
  page.on("change:scale", () => state.schedule("scale", "select"));
  page.on("change:running", () => state.schedule("all"));
  page.on("change:doing", controls.tellDoing);
  const sizes = new ResizeObserver(() => {
    if (Math.abs(widthNow() - lastWidth) < 2) return;
    words.resized();
    state.schedule("all");
  });
  sizes.observe(root);
  // A notebook that draws only what is on screen blanks canvases that scroll away.
  const watcher = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) state.schedule("theme"); });
  watcher.observe(large.canvas);
  watcher.observe(small.canvas);
  page.onTheme(() => state.schedule("theme"));
  page.atEnd(() => { sizes.disconnect(); watcher.disconnect(); frames.stop(); });
  return page.begin();
}

export default { render };
