/** What the playground says of numbers, pieces and states, in words. Nothing here draws. */

const UNSEEN = /[\p{Cc}\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu; // controls, also of direction
const NAMED = { "\n": "\\n", "\t": "\\t", "\\": "\\\\" };
const PREVIEW = 24; // characters of a branch's text in the tree
const FOLDABLE = { top_p: "top-p", top_k: "top-k", min_p: "min-p", repetition_penalty: "repetition penalty" }; // numbers under "more settings"

// -- numbers

/** @param {number|null|undefined} logprob */
export function percent(logprob) {
  if (logprob === null || logprob === undefined) return "–";
  const share = 100 * Math.exp(logprob);
  return share > 0 && share < 0.05 ? "< 0.1 %" : `${share.toFixed(1)} %`;
}

/** @param {number|null} value */
export const bitsOrUnknown = (value) => (value === null ? "unknown" : `${value.toFixed(2)} bits`);

/** @param {number} number */
export const grouped = (number) => Number(number).toLocaleString("en-US");

/** @param {number} value */
export const withSign = (value) => `${value > 0 ? "+" : ""}${value}`;

// -- texts

/** @param {string} text @param {number} length  in characters, not in code units */
export const shorten = (text, length) => ([...text].length > length ? `${[...text].slice(0, length).join("")}…` : text);

/** A piece as one can see it: quoted, white space by name. @param {string} piece */
export function visible(piece) {
  const byName = (sign) => (sign in NAMED ? NAMED[sign] : `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `“${piece.replace(UNSEEN, byName)}”`;
}

/** A text as it is typed in one line. @param {string} text */
export const escaped = (text) => text.replace(/[\\\n\t]/g, (sign) => NAMED[sign]);

/** @param {string} text */
export const unescaped = (text) => text.replace(/\\(\\|n|t)/g, (_, sign) => ({ "\\": "\\", n: "\n", t: "\t" })[sign]);

/** Stop strings as they are typed, one a line. @param {string[]} strings */
export const linesOf = (strings) => strings.map(escaped).join("\n");

/** @param {string} lines */
export const stringsOf = (lines) => lines.split("\n").filter(Boolean).map(unescaped);

// -- what the model reads

/**
 * @param {object} now
 * @param {number|null} now.count  of tokens, null if that is not known
 * @param {boolean} now.raw
 * @param {string} [now.missing]  why the text of a conversation cannot be shown
 */
export function readsWords({ count, raw, missing }) {
  const tokens = count === null ? "" : `${grouped(count)} tokens. `;
  if (raw) return `${tokens}Raw text: names such as [unused9] are special tokens; the conversation is ignored.`;
  return `${tokens}${missing || "Editing here switches to raw text."}`;
}

/** Of special tokens' names that stand in a conversation. @param {string[]} names */
export function spelledWords(names) {
  const one = names.length === 1;
  return `${names.map(visible).join(", ")} in the conversation ${one ? "is" : "are"} read as plain text, not as ${one ? "a special token" : "special tokens"}. In raw text (after an edit here) ${one ? "it becomes the special token" : "they become the special tokens"}.`;
}

// -- settings

/**
 * What stands under "more settings" besides the usual, but for a preset's numbers.
 * @param {Record<string, any>} now  by trait
 * @param {Record<string, number>|null} usual
 */
export function unusualSettings(now, usual) {
  const words = [];
  if (usual && !now.preset)
    for (const [name, label] of Object.entries(FOLDABLE)) if (now[name] !== usual[name]) words.push(`${label} ${now[name]}`);
  for (const [count, one, several] of [[now.stop_strings.length, "stop string", "stop strings"], [now.logit_bias.length, "logit bias", "logit biases"]])
    if (count) words.push(`${count} ${count === 1 ? one : several}`);
  return words;
}

// -- the answer and how it came

/** @param {number} count @param {boolean} folded */
export const thinkingWords = (count, folded) => `thinking, ${count} token${count === 1 ? "" : "s"} ${folded ? "▸" : "▾"}`;

/**
 * Tokens, speed and memory; at the end also why it ended.
 * @param {import("./state.js").Status} now
 * @param {boolean} running
 * @param {boolean} served  whether the memory is a server's
 */
export function statusWords(now, running, served) {
  const parts = [];
  if (now.doing) parts.push(now.doing);
  if (now.tokens) parts.push(`${grouped(now.tokens)} new tokens`);
  if (now.tokens && now.speed) parts.push(`${now.speed.toFixed(1)} tokens/s`);
  if (now.tokens && now.seconds) parts.push(`${now.seconds.toFixed(1)} s including the prompt`);
  if (now.memory_gb) parts.push(`memory ${now.memory_gb.toFixed(2)} GB`);
  else if (now.tokens && served) parts.push("memory: on the server");
  if (now.reason && !running) parts.push(now.reason);
  return parts.join(" · ");
}

/** @param {number} used  tokens @param {number} context  0 if it is not known */
export const contextWords = (used, context) => (context ? `context ${grouped(used)} of ${grouped(context)} ` : `context ${grouped(used)} tokens`);

// -- branches

/** How a branch's text begins. @param {string} preview */
export const beginning = (preview) => shorten(preview.replace(UNSEEN, " ").trim(), PREVIEW);

/** @param {import("./state.js").BranchNode} node */
export const branchTitle = ({ name, at, preview }) => `${name}${at === null ? "" : `, from token ${at}`}: ${preview}`;
