/** The same numbers as the panels, as tables. */
import { element } from "../shared/dom.js";
import { tableOf } from "../shared/table.js";
import { byWeight, usersOf } from "./expert_card.js";
import { globalTop } from "./router_panel.js";
import { SPANS } from "./tokens.js";
import { fixed, percent, verdict, yesNo } from "./writing.js";

const ROWS = 400; // of a table

function put(holder, head, rows, total, texts = []) {
  const cut = total > rows.length ? [element("p", "soft", `The first ${rows.length} of ${total} rows; view.table(…) gives all of them.`)] : [];
  holder.replaceChildren(...cut, tableOf(head, rows, texts));
}

/** By panel, what fills the holder of its table. @param {import("./state.js").State} state */
export function tables(state) {
  const { model, details } = state;
  const keptTokens = () => { const { data, counts } = state, list = []; for (let token = 0; token < data.count; token++) if (counts.keep[token]) list.push(token); return list; };
  return {
    tokens(holder) {
      const { data } = state, layer = model.get("layer"), group = model.get("group"), list = keptTokens(), got = details.ofLayer(layer);
      put(holder, ["document", "token", "piece", "span", "phase", "surprisal, bits", `expert of group ${group}`, "margin", "entropy"], list.slice(0, ROWS).map((token) => [data.label(token), data.within(token), data.pieces[token], SPANS[data.kind[token]], data.decode[token] ? "decode" : "prefill", fixed(data.bits[token], 2), data.at(token, layer, group), fixed(details.margin(layer, token, group), 4), fixed(got.entropy?.[token], 4)]), list.length, [0, 2]);
    },
    map(holder) {
      const { data, from } = state, list = keptTokens().filter((token) => token >= from && token < from + state.shown()), rows = [];
      for (const token of list) for (let layer = 0; layer < data.layers && rows.length < ROWS; layer++) rows.push([data.label(token), data.within(token), data.pieces[token], layer, ...Array.from({ length: data.slots }, (_, slot) => data.at(token, layer, slot))]);
      put(holder, ["document", "token", "piece", "layer", ...Array.from({ length: data.slots }, (_, slot) => `group ${slot}`)], rows, list.length * data.layers, [0, 2]);
    },
    load(holder) {
      const { data, counts } = state, rows = [], first = model.get("layer"), order = [first, ...Array.from({ length: data.layers }, (_, n) => n).filter((n) => n !== first)];
      for (const layer of order) for (let expert = 0; expert < data.experts && rows.length < ROWS; expert++) rows.push([layer, expert, data.group(expert), counts.count(layer, expert), percent(counts.share(layer, expert)), (counts.share(layer, expert) / counts.chance).toFixed(2), counts.kept < data.count ? percent(counts.shareOfOthers(layer, expert)) : "–", verdict(counts.isBeyond(layer, expert), counts.share(layer, expert) > counts.base(layer, expert))]);
      put(holder, ["layer", "expert", "group", "count", "share", "load ratio", "others", "vs chance"], rows, counts.counts.length);
    },
    expert(holder) {
      const { data } = state, layer = model.get("layer"), expert = model.get("expert"), users = expert < 0 ? [] : byWeight(usersOf(state, layer, expert));
      if (expert < 0) return holder.replaceChildren(element("p", "soft", "No expert is selected: click one."));
      put(holder, ["document", "token", "piece", "weight"], users.slice(0, ROWS).map(({ token, weight }) => [data.label(token), data.within(token), data.pieces[token], fixed(weight, 4)]), users.length, [0, 2]);
    },
    router(holder) {
      const { data } = state, layer = model.get("layer"), token = state.pinned(), probability = token < 0 ? null : details.probabilities(layer, token);
      if (token < 0) return holder.replaceChildren(element("p", "soft", "No token is selected: click one."));
      const top = probability ? globalTop(probability, data.slots) : null;
      const rows = Array.from({ length: data.experts }, (_, expert) => [data.group(expert), expert, probability ? percent(probability[expert], 2) : "–", fixed(data.scale(token, layer, expert), 3), yesNo(data.slot(token, layer, expert) >= 0), top ? yesNo(top.has(expert)) : "–"]);
      put(holder, ["group", "expert", "probability", "router_scale", "winner", `global top-${data.slots}`], rows, rows.length);
    },
  };
}
