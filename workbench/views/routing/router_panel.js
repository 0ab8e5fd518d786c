/** The router of a token: the probability of every expert, the winners, and what a global top would take. */
import { pen, wipe } from "../shared/canvas.js";
import { element, refill } from "../shared/dom.js";
import { explained, tableOf } from "../shared/table.js";
import { quoted } from "../shared/values.js";
import { expertButton } from "./experts.js";
import { panel } from "./panel.js";
import { fixed, percent } from "./writing.js";

/** The experts that would be chosen without groups: the most probable, of equal ones the first. */
export const globalTop = (probability, count) => new Set([...probability.keys()].sort((a, b) => probability[b] - probability[a]).slice(0, count));

/** @param {import("./state.js").State} state */
export function routerPanel(state) {
  const { details } = state, router = panel("token", "The token's router");
  const caption = element("p", "caption"), bars = element("canvas", "bars"), barsNote = element("p", "soft small");
  const winners = element("div", "winners"), counterfactual = element("p", "soft small counterfactual");
  bars.setAttribute("role", "img");
  bars.setAttribute("aria-label", "router probability of every expert, by group; the table has the same numbers");
  router.body.append(caption, bars, barsNote, winners, counterfactual);
  let shown = "";

  /** Whether it drew something new. */
  function show(token, layer, expert) {
    const { data } = state, first = token < 0; // nothing is pointed at or kept
    if (first) token = Math.max(0, state.counts.keep.indexOf(1));
    if (first && state.busy) { state.schedule("hover"); return false; }
    const probability = details.probabilities(layer, token), outlined = data.slot(token, layer, expert) >= 0 ? expert : -1;
    const version = `${first} ${token} ${layer} ${outlined} ${probability !== null} ${details.ofLayer(layer).tokens > token} ${details.absent.size} ${state.widthOf(router.body)}`;
    if (shown === version) return false;
    shown = version;
    caption.replaceChildren("Token ", element("b", "", String(data.within(token))), " ", element("code", "", quoted(data.pieces[token])), data.documents.length > 1 ? ` of ${data.label(token)}` : "", `, layer ${layer}: ${data.grouped ? "one winner of each group" : `${data.slots} winners`}${first ? " (point at another)" : ""}`);
    const top = probability ? globalTop(probability, data.slots) : null;
    bars.hidden = barsNote.hidden = !probability;
    if (probability) drawBars(probability, token, layer, top, expert);
    const table = tableOf(["group", "expert", "probability", explained("margin", `The winner's probability minus that of the runner-up${data.grouped ? " of its group" : ""}.`), explained("router_scale", "A learned factor of this expert: weight = probability × router_scale."), "weight", explained(`top-${data.slots}`, `Whether a top-${data.slots} over all experts, without groups, would choose it.`)], Array.from({ length: data.slots }, (_, slot) => {
      const winner = data.at(token, layer, slot), scale = data.scale(token, layer, winner);
      return [slot, expertButton(data, winner, layer), probability ? percent(probability[winner], 2) : "–", fixed(details.margin(layer, token, slot), 4), fixed(scale, 3), fixed(details.weight(layer, token, slot), 4), probability ? (top.has(winner) ? "yes" : "no") : "–"];
    }));
    for (const [slot, row] of [...table.tBodies[0].rows].entries()) row.classList.toggle("current", data.at(token, layer, slot) === expert);
    refill(winners, state.choices, table);
    counterfactual.textContent = withoutGroups(probability, token, layer, top);
    return true;
  }

  function withoutGroups(probability, token, layer, top) {
    const { data } = state;
    if (!probability) {
      if (data.missing.includes("router_logits")) return "This trace has no router_logits: no probabilities, margins and global top.";
      return details.lacks(layer, token) ? "This saved page does not contain this layer's probabilities." : "loading the probabilities…";
    }
    const chosen = Array.from({ length: data.slots }, (_, slot) => data.at(token, layer, slot)), mass = (list) => list.reduce((sum, e) => sum + probability[e], 0);
    const instead = [...top].filter((e) => !chosen.includes(e)), lost = chosen.filter((e) => !top.has(e));
    return `Without groups, a top-${data.slots} would choose ${instead.length ? `${instead.join(", ")} instead of ${lost.join(", ")}` : "the same experts"}: ${data.slots - instead.length} of ${data.slots} agree; probability ${percent(mass(chosen))} as chosen, ${percent(mass([...top]))} without groups. Uniform: ${percent(1 / data.experts)} per expert.`;
  }

  function drawBars(probability, token, layer, top, expert) {
    const { data, theme } = state;
    const width = state.widthOf(router.body) || 460, height = 112, floor = 98, gap = 7;
    const context = bars.style.width === `${width}px` ? wipe(bars) : pen(bars, width, height), step = (width - 4 - gap * data.groups) / data.experts;
    const most = Math.max(...probability, 3 / data.experts), y = (value) => floor - (value / most) * 74;
    context.textAlign = "center";
    for (let e = 0; e < data.experts; e++) {
      const x = 2 + e * step + data.group(e) * gap, wins = data.slot(token, layer, e) >= 0;
      context.globalAlpha = wins ? 1 : 0.5;
      context.fillStyle = data.colours[e];
      context.fillRect(x, y(probability[e]), step - 1, floor - y(probability[e]));
      context.globalAlpha = 1;
      context.fillStyle = theme.ink;
      if (wins) {
        context.strokeStyle = e === expert ? theme.mark : theme.ink;
        context.lineWidth = e === expert ? 3 : 1.5;
        context.strokeRect(x, y(probability[e]), step - 1, floor - y(probability[e]));
        context.font = "bold 10px system-ui, sans-serif";
        context.fillText(String(e), x + step / 2, y(probability[e]) - 13);
      }
      if (top.has(e)) { context.beginPath(); context.arc(x + step / 2 - 0.5, y(probability[e]) - 5, 2, 0, 7); context.fill(); }
    }
    context.fillStyle = theme.ink;
    context.font = "10px system-ui, sans-serif";
    for (let group = 0; group < data.groups && data.groups > 1; group++) context.fillText(step * data.size > 42 ? `group ${group}` : String(group), 2 + (group + 0.5) * data.size * step + group * gap, floor + 8);
    context.setLineDash([3, 3]);
    context.strokeStyle = theme.ink;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, y(1 / data.experts));
    context.lineTo(width, y(1 / data.experts));
    context.stroke();
    context.setLineDash([]);
    barsNote.textContent = `Outlined: winner; dot: in the global top-${data.slots}; dashed: uniform, ${percent(1 / data.experts)}; highest ${percent(most)}.`;
  }

  return { ...router, show, forget: () => { shown = ""; } };
}
