/** Numbers and verdicts as this view writes them. */
import { element } from "../shared/dom.js";

export const NONE = "No tokens match these filters. “all tokens” clears them.";
export const percent = (share, digits = 1) => (Number.isFinite(share) ? `${(100 * share).toFixed(digits)} %` : "–");
export const fixed = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
export const yesNo = (value) => element("span", value ? "beyond" : "soft", value ? "yes" : "no");
/** Where a number lies beside what chance gives. */
export const besideChance = (beyond, above) => (beyond ? (above ? "above" : "below") : "within");
export const verdict = (beyond, above) => element("span", beyond ? "beyond" : "soft", besideChance(beyond, above));
