/** The heads with the highest scores. */
import { element, refill } from "../shared/dom.js";
import { headButton, headTable } from "./head_table.js";
import { rankingWords, written } from "./words.js";

const RANKED = 10;

/** @param {import("./state.js").State} state @param {HTMLElement} otherwise  gets the keyboard's focus where a button is gone */
export function ranking(state, otherwise) {
  const section = element("section", "ranking");

  function draw() {
    const { scores } = state, shown = state.shown(), { measure, place, isRelative } = shown, all = scores.all();
    const columns = [
      { name: "", of: (_, rank) => `${rank + 1}.` },
      { name: "layer.head", of: (spot) => headButton(state, spot, `${scores.layers[spot.row]}.${spot.head}`) },
      { name: "score", of: (spot) => written(measure, scores.value(place, spot)) },
      measure.pattern && { name: "chance", of: (spot) => written(measure, scores.chance(place, spot)) },
      isRelative && { name: "above chance", of: (spot) => written(measure, shown.score(spot)) },
      { name: "tags", of: (spot) => scores.tags(spot) || "–" },
    ].filter(Boolean);
    const lines = shown.ranked().slice(0, RANKED).map((spot, rank) => ({ spot, cells: columns.map(({ of }) => of(spot, rank)) }));
    const table = headTable(state, columns.map(({ name }) => name), lines, [columns.length - 1]);
    refill(section, otherwise, element("h4", "", rankingWords(measure, all.filter((spot) => shown.isTagged(spot)).length, all.length)),
      lines.length ? element("div", "list", table) : element("p", "soft", "No head is tagged."));
  }
  return { element: section, draw };
}
