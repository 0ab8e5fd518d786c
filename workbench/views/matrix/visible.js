/** Texts as they can be seen: signs that would be invisible or turn the direction of a line stand there by name. */
import { element } from "../shared/dom.js";

const HIDDEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff])/;

/** A text in parts: `sign` of a hidden one, else `text`. @param {string} text @returns {{text?: string, sign?: string}[]} */
export function visibleParts(text) {
  const name = (sign) => `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  return text.split(HIDDEN).map((part, place) => (place % 2 ? { sign: name(part) } : { text: part })).filter((part) => part.text !== "");
}

/** A text as nodes. @param {string} text */
export const visible = (text) => visibleParts(text).map((part) => part.text ?? element("span", "control", part.sign));
