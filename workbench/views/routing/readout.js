/** What the lines at the top say: what the trace holds, what it lacks, and what is pointed at or selected. */
import { counted, quoted } from "../shared/values.js";
import { besideChance, percent } from "./writing.js";

const LOST = { router_logits: "probabilities, margins and entropy", routing_weights: "weights", chosen_logprobs: "surprisal" }; // with an array that is missing

/** @param {import("./tokens.js").Tokens} data */
export function titleOf(data) {
  return `Expert routing of ${[...new Set(data.documents.map((part) => part.model))].join(", ")}`;
}

/** @param {import("./tokens.js").Tokens} data */
export function summaryOf(data) {
  if (!data.count) return "waiting for the first tokens…";
  return `${counted(data.count)} · ${data.layers} layers · ${data.experts} experts${data.groups > 1 ? ` in ${data.groups} groups` : ""}${data.documents.length > 1 ? ` · ${data.documents.length} texts` : ""}`;
}

/** @param {string[]} missing  arrays that the trace has not */
export function warningOf(missing) {
  const lost = Object.entries(LOST).filter(([name]) => missing.includes(name)).map(([, words]) => words);
  return `This trace has no ${missing.join(", no ")}${lost.length ? `: choices and loads are shown, ${lost.join(", ")} are not` : ""}.`;
}

/**
 * @param {import("./tokens.js").Tokens} data
 * @param {import("./counts.js").Counts} counts
 * @param {{token: number, layer: number, expert: number}} now  -1 for no token, no expert
 */
export function readoutOf(data, counts, { token, layer, expert }) {
  const at = token < 0 ? "" : `${data.documents.length > 1 ? `${data.label(token)}, ` : ""}token ${data.within(token)} ${quoted(data.pieces[token])} · `;
  if (expert < 0) return `${at}layer ${layer}`;
  const share = counts.share(layer, expert);
  const compared = counts.others ? `others ${percent(counts.shareOfOthers(layer, expert))}` : `uniform routing ${percent(counts.chance)}`;
  return `${at}layer ${layer} · expert ${expert} (group ${data.group(expert)}): ${counts.count(layer, expert)} of ${counted(counts.kept)}, ${percent(share)}; ${compared}: ${besideChance(counts.isBeyond(layer, expert), share > counts.base(layer, expert))} chance`;
}
