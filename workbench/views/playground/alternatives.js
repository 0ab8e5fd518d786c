/** What else could have come in the place of a token: a box beside it, from which one branches. */
import { button, element } from "../shared/dom.js";
import { surprisal } from "./token_colours.js";
import { bitsOrUnknown, percent, visible } from "./words.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Step} Step */
/** @typedef {ReturnType<typeof alternatives>} Alternatives */

const BRIEF = 5; // alternatives shown while hovering; a click shows all

/**
 * @param {State} state
 * @param {HTMLElement[]} nodes  of the tokens
 */
export function alternatives(state, nodes) {
  const box = element("div", "popover");
  box.hidden = true;
  box.setAttribute("role", "dialog");
  box.setAttribute("aria-label", "alternatives of the token");
  const shown = { place: -1, held: false }; // the token, and whether a click keeps the box open

  /** @param {number} place @param {boolean} held */
  function show(place, held) {
    if (shown.place === place && shown.held === held && !box.hidden) return;
    nodes[shown.place]?.classList.remove("looked");
    nodes[place].classList.add("looked");
    Object.assign(shown, { place, held });
    box.replaceChildren(...content(state.steps[place], place, held));
    box.hidden = false;
    beside();
  }
  function close() {
    nodes[shown.place]?.classList.remove("looked");
    box.hidden = true;
    Object.assign(shown, { place: -1, held: false });
  }
  /** Beside its token, within the widget: a cell cuts off what hangs out. */
  function beside() {
    if (box.hidden) return;
    const home = state.root.getBoundingClientRect(), lines = nodes[shown.place].getClientRects(), line = lines[lines.length - 1] || home;
    box.style.left = `${Math.max(4, Math.min(line.left - home.left, home.width - box.offsetWidth - 4))}px`;
    const below = line.bottom - home.top + 3, above = line.top - home.top - box.offsetHeight - 3;
    box.style.top = `${below + box.offsetHeight > home.height && above > 0 ? above : below}px`;
  }
  /** Go on from a token with another one, or with a text. @param {{place: number, token?: number, text?: string}} question */
  function branch(question) {
    if (state.get("running")) return;
    close();
    state.send("branch", question);
  }

  /** @param {Step} step @param {number} place @param {boolean} held */
  function content(step, place, held) {
    const running = state.get("running"), { missing } = state.told;
    const cannot = state.get("mode") === "chat" ? missing.chat_branches || "" : "";
    const listed = held ? step.others : step.others.filter(([id], n) => n < BRIEF || id === step.id);
    const table = step.others.length ? alternativesTable(step, place, listed, running, cannot) : element("p", "soft", "The alternatives of this token were not stored.");
    const hint = element("p", "small soft", hintWords({ held, running, cannot, any: step.others.length > 0, unfiltered: !missing.drawn && listed.length > 0 && listed.every(([, , , drawn]) => drawn === null) }));
    const form = ownText(place);
    form.hidden = running || Boolean(cannot || missing.own_text) || !held;
    return [facts(step, place), table, hint, form];
  }
  function alternativesTable(step, place, listed, running, cannot) {
    const head = element("tr", "", ...["alternative", "before filters", "after filters", "", ""].map((text) => element("th", "", text)));
    const rows = listed.map((other) => alternativeRow(step, place, other, running, cannot));
    return element("table", "", element("thead", "", head), element("tbody", "", ...rows));
  }
  /** @param {Step} step @param {number} place @param {Step["others"][number]} other */
  function alternativeRow(step, place, [id, piece, logprob, drawn, kept], running, cannot) {
    const chosen = id === step.id, pick = button(visible(piece), "", () => branch({ place, token: id }));
    pick.disabled = running || chosen || Boolean(cannot);
    pick.title = cannot || (chosen ? "this is the generated token" : "branch: continue from here with this token");
    const after = state.told.missing.drawn ? "–" : kept ? percent(drawn) : "cut";
    const cells = [pick, percent(logprob), after, shares(logprob, drawn), chosen ? "chosen" : ""];
    return element("tr", chosen ? "chosen" : kept ? "" : "cut", ...cells.map((cell) => element("td", "", cell)));
  }
  /** A form to write what should stand there. @param {number} place */
  function ownText(place) {
    const own = element("input"), form = element("form", "", own, element("button", "", "branch"));
    own.placeholder = "or write your own text";
    own.setAttribute("aria-label", "text to continue with from here");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (own.value) branch({ place, text: own.value });
    });
    return form;
  }

  return { element: box, shown, show, close, beside };
}

/** @param {Step} step @param {number} place */
function facts(step, place) {
  const id = step.id < 0 ? "" : `, id ${step.id}`; // a server may not tell it
  const numbers = `surprisal ${bitsOrUnknown(surprisal(step))} · entropy ${bitsOrUnknown(step.entropy)} · token ${place}${id}`;
  return element("p", "", element("b", "piece", visible(step.piece)), ` ${percent(step.logprob)}`, element("div", "small soft", numbers));
}

/** Two bars: the probability before the filters, and after them. @param {(number|null)[]} logprobs */
function shares(...logprobs) {
  const bars = [element("i"), element("b")];
  logprobs.forEach((value, n) => { bars[n].style.width = `${value === null ? 0 : 100 * Math.exp(value)}%`; });
  return element("span", "share", ...bars);
}

/**
 * What one can do with the alternatives.
 * @param {object} now
 * @param {boolean} now.held  whether a click keeps them open
 * @param {boolean} now.running
 * @param {string} now.cannot  why nothing can be branched, "" if it can
 * @param {boolean} now.any  whether there are alternatives
 * @param {boolean} now.unfiltered  whether it is not known what the filters left
 */
export function hintWords({ held, running, cannot, any, unfiltered }) {
  const kept = unfiltered ? "From the history, which keeps the most probable tokens but not their probabilities after the filters. " : "";
  if (cannot) return kept + cannot;
  if (running) return `${kept}To branch from here, stop the generation or let it end.`;
  if (!held) return `${kept}Choose one to branch from here; click the token for more.`;
  return any ? `${kept}Choose one to branch from here.` : kept;
}
