/**
 * Expert routing: tokens, map, load, one token's router and one expert's tokens, all linked.
 * Moving the pointer shows (a state of this page), a click keeps (a trait).
 *
 * @typedef Model
 * @property {number} document  index of the selected token's document (trace)
 * @property {number} token     selected token within its document, -1 for none
 * @property {number} layer     selected layer
 * @property {number} expert    selected expert, -1 for none
 * @property {number} group     group whose winner colours the tokens
 * @property {"group"|"margin"|"entropy"|"surprisal"} colour  of the tokens
 * @property {string} domain    filter: "all" or a label
 * @property {"all"|"prompt"|"thinking"|"answer"} span  filter
 * @property {"all"|"prefill"|"decode"} phase  filter
 * @property {string} search    filter: a text, or a regular expression between slashes
 * @property {"others"|"uniform"} compare  what chance means
 * @property {boolean} running  whether a generation fills the view
 * @property {string} doing     what it does meanwhile, where a token takes long
 *
 * Messages to Python, besides those of all views: {kind: "want"}, {kind: "layer", layer},
 * {kind: "block", layer, block}, {kind: "stop"}.
 * Messages from Python, axes [token, layer, slot] over all documents joined:
 * {kind: "routing", layers, slots, experts, groups, grouped, obeyed_groups, block, documents, missing, error} with
 * choices (4 bits each within their group, low half first, or uint16 ids where not grouped),
 * surprisal [token] float32, colours [expert, 3] uint8, router_scale [document, layer, expert] float32;
 * {kind: "more", start, pieces, span, missing} with choices and surprisal of new tokens;
 * {kind: "layer", layer} with weights [token, slot], entropy [token], margins [token, slot] float32;
 * {kind: "block", layer, block} with probabilities [token, expert] float32; what is not known is empty.
 */
import { element, rootOf, tellGone } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { limit } from "../shared/values.js";
import { choiceMap } from "./choice_map.js";
import { Counts } from "./counts.js";
import { Details } from "./details.js";
import { expertCard } from "./expert_card.js";
import { filterRow } from "./filters.js";
import { listenToKeys } from "./keyboard.js";
import { loadMap } from "./load_map.js";
import { tableButton } from "./panel.js";
import { readoutOf, summaryOf, titleOf, warningOf } from "./readout.js";
import { routerPanel } from "./router_panel.js";
import { State } from "./state.js";
import { tables } from "./tables.js";
import { tokenStrip } from "./token_strip.js";
import { Tokens } from "./tokens.js";

function render({ model, el }) {
  const root = rootOf(el, "pw-routing"), page = talk(model, () => tellGone(root));
  const state = new State(model, page, root, new Details(page.send));

  // -- the page's parts -------------------------------------------------------------------------------

  const title = element("span", "title"), summary = element("span", "soft");
  const status = element("span", ""), doing = element("span", "soft"), halt = element("button", "plain", "Stop");
  halt.addEventListener("click", () => page.send({ kind: "stop" }));
  const warning = element("div", "warning"), readout = element("div", "readout soft"), spoken = element("div", "spoken");
  spoken.setAttribute("aria-live", "polite");
  const filters = filterRow(state);
  const strips = tokenStrip(state, filters.colouring, scrollTo), maps = choiceMap(state, scrollTo), loads = loadMap(state);
  const cards = expertCard(state), router = routerPanel(state);
  state.choices = maps.canvas;
  const build = tables(state);
  const open = [
    tableButton(strips, "tokens", build.tokens),
    tableButton(loads, "load", build.load),
    tableButton(cards, "the expert's tokens", build.expert),
    tableButton(router, "the router", build.router),
    tableButton(maps, "map", build.map),
  ];
  const pair = element("div", "two even");
  pair.append(cards.body, router.body);
  root.append(element("div", "row", title, summary, doing, status, halt), filters.row, filters.problem, warning, readout, strips.body, loads.body, pair, maps.body, spoken);

  function scrollTo(token) {
    state.keepInside(token);
    maps.draw();
    strips.drawOverview();
    strips.build();
    mark();
  }

  // -- what changes, and when it is drawn: at most once a frame -----------------------------------------------

  const dirty = new Set();
  state.schedule = (...what) => {
    if (!dirty.size) requestAnimationFrame(flush);
    what.forEach((name) => dirty.add(name));
  };

  function recount() {
    const { data, counts } = state;
    const known = counts?.data === data && counts.keep.length === data.count ? counts.totals : undefined;
    const read = { domain: model.get("domain"), span: model.get("span"), phase: model.get("phase"), search: model.get("search") };
    state.counts = new Counts(data, read, model.get("compare") === "others", known);
  }

  function flush() {
    const { data } = state, todo = new Set(dirty);
    dirty.clear();
    if (!todo.size || !data || !root.isConnected) return;
    const has = (...names) => names.some((name) => todo.has(name));
    state.details.begin();
    state.busy = has("filter");
    if (!state.theme || has("theme")) state.readTheme();
    if (has("all", "filter")) recount();
    if (has("all", "filter", "select", "colour")) filters.update();
    filters.follow();
    if (has("all")) describe();
    halt.hidden = !model.get("running");
    warning.hidden = !data.missing.length || !data.count || model.get("running"); // what is missing may still come
    if (!data.count) return;
    if (has("all")) state.measure(state.widthOf(maps.body) || 900);
    if (model.get("running") && state.pinned() < 0 && has("more")) state.from = Math.max(0, data.count - state.shown());
    const token = state.pinned();
    let moved = has("all", "more");
    if (has("select") && token >= 0 && (token < state.from || token >= state.from + state.shown())) {
      state.from = limit(token - Math.floor(state.shown() / 2), 0, data.count - state.shown());
      moved = true;
    }
    if (moved || has("filter", "theme")) maps.draw();
    if (moved || has("filter", "select", "colour", "theme")) strips.drawOverview();
    if (moved) strips.build();
    else if (has("filter", "select", "colour", "layer", "theme")) strips.paint();
    if (has("all", "filter", "theme")) { loads.draw(); cards.forget(); }
    if (has("all", "theme")) router.forget();
    if (has("all", "filter", "select")) loads.drawRank();
    mark();
    const following = has("more") && model.get("running"), seen = token >= 0 ? token : following ? data.count - 1 : state.counts.keep.indexOf(1);
    // In the next frame: asked now, it would cost a layout of its own.
    if (has("select", "filter") || following) requestAnimationFrame(() => state.data && strips.reveal(seen));
    state.details.settle(Boolean(state.hover), model.get("running"));
    if (todo.size > 1 || !has("hover")) {
      open.forEach((table) => table());
      if (has("select")) spoken.textContent = readout.textContent;
    }
  }

  /** What the trace holds, and what it lacks. */
  function describe() {
    const { data } = state;
    for (const box of [pair, strips.body, maps.body, loads.body]) box.hidden = !data.count;
    summary.textContent = summaryOf(data);
    warning.textContent = warningOf(data.missing);
    status.textContent = data.error || "";
  }

  let cardDue = false;
  /** What moves with the pointer: marks over the canvases, the token's router, the expert's card. */
  function mark() {
    const { data, counts } = state, now = state.current(), selected = state.pinned(), { token, layer, expert } = now;
    maps.mark(now, selected);
    loads.mark(now);
    strips.mark(layer, expert, selected);
    // While the pointer moves, the router and the card are drawn in turn, one a frame.
    const turn = state.hover && cardDue, drawn = !turn && router.show(token, layer, expert);
    cardDue = Boolean(state.hover) && drawn;
    if (!cardDue) cards.show(layer, expert);
    if (turn || cardDue) state.schedule("hover");
    readout.textContent = readoutOf(data, counts, now);
  }

  // -- pointer and keys -----------------------------------------------------------------------------------

  for (const { canvas, find } of [maps, loads]) {
    canvas.addEventListener("pointermove", (event) => {
      /** @type {{token?: number, layer?: number, expert?: number} | null} */
      const next = find(event), { hover } = state;
      if (next?.token !== hover?.token || next?.layer !== hover?.layer || next?.expert !== hover?.expert) state.point(next);
    });
    canvas.addEventListener("click", (event) => { const found = find(event); if (found) state.choose(found); });
  }
  for (const node of [strips.strip, maps.canvas, loads.canvas, cards.card]) node.addEventListener("pointerleave", () => state.hover && state.point(null));
  root.addEventListener("click", (event) => {
    const button = event.target.closest("td button");
    if (button?.dataset.expert) state.choose({ expert: Number(button.dataset.expert), layer: Number(button.dataset.layer) });
    else if (button?.dataset.token) state.choose({ token: Number(button.dataset.token) });
  });
  listenToKeys(strips.strip, "token", state);
  listenToKeys(maps.canvas, "token", state);
  listenToKeys(loads.canvas, "expert", state);

  // -- messages -----------------------------------------------------------------------------------------------

  const onMessage = (content, buffers) => {
    const { data } = state;
    if (content.kind === "routing") {
      state.data = new Tokens(content, buffers);
      state.details.clear(state.data);
      state.hover = null;
      title.textContent = titleOf(state.data);
      filters.build();
      dirty.add("all");
      flush();
      root.dataset.ready = "true";
      root.dataset.tokens = state.data.count;
    } else if (content.kind === "more" && data) {
      if (content.start < data.count) return; // came with everything
      if (content.start > data.count) return page.send({ kind: "want" });
      const first = !data.count;
      data.append(content, buffers);
      root.dataset.tokens = data.count;
      if (first) state.cell = 0;
      state.schedule("all", "more");
    } else if (["layer", "block"].includes((content.asked ?? content).kind)) {
      state.details.take(content, buffers);
      state.schedule("layer");
    }
  };
  page.on("msg:custom", onMessage);
  page.on(["change:document", "change:token", "change:layer", "change:expert"], () => state.schedule("select"));
  page.on(["change:group", "change:colour", "change:running"], () => state.schedule("colour"));
  page.on(["change:domain", "change:span", "change:phase", "change:search", "change:compare"], () => state.schedule("filter"));
  const tell = () => { doing.textContent = model.get("doing"); };
  page.on("change:doing", tell);
  tell();
  // Only a finished layout is measured: while a theme is loaded, widths are passing ones.
  const sizes = new ResizeObserver((entries) => {
    const changed = new Set();
    for (const { target, contentRect } of entries) {
      const width = Math.floor(contentRect.width), before = state.widths.get(target) || 0;
      if (!width || Math.abs(width - before) < 2) continue;
      state.widths.set(target, width);
      changed.add(target);
    }
    if (changed.has(router.body)) state.schedule("hover");
    if (!changed.has(maps.body) && !changed.has(loads.left)) return;
    if (state.data?.count && state.shown() >= state.data.count) state.cell = 0;
    state.schedule("all");
  });
  for (const node of [maps.body, loads.left, router.body]) sizes.observe(node);
  // A notebook that draws only what is on screen blanks canvases that scroll away.
  const watcher = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) state.schedule("theme"); });
  watcher.observe(maps.canvas);
  page.onTheme(() => state.schedule("theme"));
  page.atEnd(() => { sizes.disconnect(); watcher.disconnect(); });
  return page.begin();
}

export default { render };
