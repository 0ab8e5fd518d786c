/** The card of an expert: its tokens, their words, its domains, its partners. */
import { element, refill } from "../shared/dom.js";
import { tableOf } from "../shared/table.js";
import { counted, quoted } from "../shared/values.js";
import { beyondOthers } from "./chance.js";
import { expertButton, swatch } from "./experts.js";
import { panel } from "./panel.js";
import { NONE, fixed, percent, verdict } from "./writing.js";

const LIST = 8; // tokens listed

/** The kept tokens that use an expert. @param {import("./state.js").State} state */
export function usersOf(state, layer, expert) {
  const { data, counts, details } = state, users = [];
  for (let token = 0; token < data.count; token++) {
    const slot = counts.keep[token] ? data.slot(token, layer, expert) : -1;
    if (slot >= 0) users.push({ token, weight: details.weight(layer, token, slot) });
  }
  return users;
}
export const byWeight = (users) => (Number.isFinite(users[0]?.weight) ? [...users].sort((a, b) => b.weight - a.weight || a.token - b.token) : users);

/**
 * Experts that are used together with one, by lift over independence; those of its own group are rarer, or
 * impossible. `together` are uses by its tokens, `uses` by all kept tokens.
 */
export function partners(expert, { experts, slots, groups, users, kept, together, uses }) {
  const size = experts / groups, chosen = slots / groups; // of the groups that choices keep to
  const within = ((chosen - 1) * size) / (chosen * Math.max(1, size - 1)), list = [];
  for (let other = 0; other < experts; other++) {
    const count = uses(other), same = Math.floor(other / size) === Math.floor(expert / size);
    if (!count || other === expert || (same && !within)) continue;
    list.push({ other, same, count, together: together[other], lift: (together[other] * kept) / (users * count * (same ? within : 1)) });
  }
  const rows = list.map((row) => ({ ...row, marked: !row.same && beyondOthers(row.together, row.count, users, kept, list.length) }));
  return rows.sort((a, b) => Number(b.marked && b.lift > 1) - Number(a.marked && a.lift > 1) || b.lift - a.lift || a.other - b.other);
}

/** @param {import("./state.js").State} state */
export function expertCard(state) {
  const cards = panel("expert", "The expert's tokens"), card = element("div", "card");
  cards.body.append(card);
  let shown = "", shownCounts = null;

  function show(layer, expert) {
    const { data, counts, details } = state;
    const first = expert < 0; // nothing is pointed at or kept: the most preferred
    if (first && state.busy) return state.schedule("hover");
    if (first) expert = state.preferred[0];
    const got = details.ofLayer(layer), version = `${first} ${layer} ${expert} ${got.tokens} ${data.count}`;
    if (shown === version && shownCounts === counts) return;
    shown = version;
    shownCounts = counts;
    const { kept } = counts;
    if (!kept) return refill(card, state.choices, element("p", "soft", NONE));
    const users = usersOf(state, layer, expert);
    const base = counts.others ? `Other tokens ${percent(counts.shareOfOthers(layer, expert))}; ` : `Uniform routing: ${percent(counts.chance)}, ${counts.band[0]} to ${counts.band[1]} uses; `;
    const head = element("p", "", first ? "Most preferred: layer " : "Layer ", element("b", "", String(layer)), ", expert ", swatch(data, expert), data.grouped ? ` of group ${data.group(expert)}` : "", `: ${users.length} of ${counted(kept)}, ${percent(users.length / Math.max(1, kept))}. ${base}`, verdict(counts.isBeyond(layer, expert), counts.share(layer, expert) > counts.base(layer, expert)), " chance.");
    const lists = element("div", "lists");
    if (!users.length) lists.append(element("p", "soft", `No ${kept < data.count ? "matching " : ""}token uses it.`));
    else lists.append(tokensOf(users), wordsOf(users));
    if (data.labels.length > 1) lists.append(tableOf(["domain", "share", "", "vs chance"], counts.byDomain(layer, 1).map(({ label, tokens, count, low, high }) => [label, percent(count[expert] / tokens), track(count[expert] / Math.max(1, tokens)), verdict(count[expert] < low || count[expert] > high, count[expert] > high)])));
    if (users.length) lists.append(partnersOf(users, layer, expert));
    refill(card, state.choices, head, lists);
  }

  function tokensOf(users) {
    const { data } = state, weighted = Number.isFinite(users[0].weight);
    const near = (start, end, owner) => { let text = ""; for (let t = Math.max(0, start); t < Math.min(data.count, end); t++) if (data.owner[t] === owner) text += data.pieces[t]; return text.replaceAll("<0x0A>", "⏎"); };
    const context = ({ token }) => {
      const button = element("button", "", near(token - 4, token, data.owner[token]), element("b", "", near(token, token + 1, data.owner[token])), near(token + 1, token + 5, data.owner[token]));
      button.dataset.token = token;
      return button;
    };
    return tableOf([weighted ? "weight" : "token", `its tokens, ${weighted ? "highest weight first" : `in order${data.missing.includes("routing_weights") ? "; no routing_weights" : ""}`}`], byWeight(users).slice(0, LIST).map((user) => [weighted ? user.weight.toFixed(3) : data.within(user.token), context(user)]), [1]);
  }

  function wordsOf(users) {
    const { data, counts } = state, words = new Map(), all = new Map();
    for (const { token } of users) words.set(data.pieces[token], (words.get(data.pieces[token]) || 0) + 1);
    for (let token = 0; token < data.count; token++) if (counts.keep[token] && words.has(data.pieces[token])) all.set(data.pieces[token], (all.get(data.pieces[token]) || 0) + 1);
    return tableOf(["piece", "uses it"], [...words].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([piece, n]) => [quoted(piece), `${n} of ${all.get(piece)}`]), [0]);
  }

  /** A bar of a share, with a line where chance is. */
  function track(value) {
    const bar = element("i"), line = element("b"), node = element("span", "track", bar, line);
    bar.style.width = `${100 * value}%`;
    line.style.left = `${100 * state.counts.chance}%`;
    return node;
  }

  function partnersOf(users, layer, expert) {
    const { data, counts } = state, together = new Uint32Array(data.experts);
    for (const { token } of users) for (let slot = 0; slot < data.slots; slot++) together[data.at(token, layer, slot)]++;
    const rows = partners(expert, { experts: data.experts, slots: data.slots, groups: data.obeyed_groups, users: users.length, kept: counts.kept, together, uses: (other) => counts.count(layer, other) });
    return tableOf(["partner", "lift", "together", "vs chance"], rows.slice(0, 6).map((row) => [expertButton(data, row.other, layer), fixed(row.lift, 2), row.together, verdict(row.marked, row.lift > 1)]));
  }

  return { ...cards, card, show, forget: () => { shown = ""; } };
}
