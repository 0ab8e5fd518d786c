/** Every score of the selected head. */
import { element } from "../shared/dom.js";
import { limit } from "../shared/values.js";
import { headTable } from "./head_table.js";
import { plain } from "./scores.js";
import { sharingWords, written } from "./words.js";

/** @param {import("./state.js").State} state */
export function headCard(state) {
  const section = element("section", "card");

  /** @param {import("./scores.js").Head} spot @param {number} place  of a measure */
  function line(spot, place) {
    const { scores } = state, measure = scores.measures[place], score = scores.value(place, spot), chance = scores.chance(place, spot);
    if (!measure.pattern) return { cells: [plain(measure.name), written(measure, score), "", ""] };
    const is = scores.isTagged(place, spot), name = element("span", is ? "yes" : "", `${plain(measure.name)}${is ? " ●" : ""}`);
    return { cells: [name, written(measure, score), track(score, chance), written(measure, chance)] };
  }
  function draw() {
    const spot = state.selected(), { scores } = state;
    if (!spot) return section.replaceChildren(element("p", "soft", `Layer ${state.get("layer")} was not recorded.`));
    const lines = scores.measures.map((_, place) => line(spot, place));
    section.replaceChildren(
      element("h4", "", `Layer ${scores.layers[spot.row]}, head ${spot.head}`, element("span", "soft", ` · ${sharingWords(spot.head, scores.group)}`)),
      element("div", "list", headTable(state, ["● tagged", "score", "line: chance", "chance"], lines, [0, 2])),
    );
  }
  return { element: section, draw };
}

/** A score as a bar from 0 to 1, chance as a line across it. @param {number} score @param {number} chance */
function track(score, chance) {
  const fill = element("i"), line = element("b");
  fill.style.width = `${100 * limit(score || 0, 0, 1)}%`;
  line.style.left = `${100 * limit(chance || 0, 0, 1)}%`;
  return element("span", "track", fill, ...(Number.isFinite(chance) ? [line] : []));
}
