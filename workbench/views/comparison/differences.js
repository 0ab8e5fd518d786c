/** Where texts part. Nothing here draws. */

/** @typedef {import("../shared/tokens.js").Step} Step */

/** What a token says: "<0x0A>" is a line break also where another vocabulary writes it so. @param {Pick<Step, "piece">} step */
export const content = ({ piece }) => piece.replace(/^<0x([0-7][0-9A-F])>$/, (_, code) => String.fromCharCode(parseInt(code, 16)));

/**
 * The first token in which a text is not that of reference, -1 for none. Where one of two texts ends earlier, that
 * is where it ends; while they grow, they are compared as far as both have come.
 * @param {Pick<Step, "id"|"piece">[]} steps
 * @param {Pick<Step, "id"|"piece">[]} base
 * @param {boolean} same  whether both are of the same weights; a token's id may mean something else to others
 * @param {boolean} growing
 */
export function firstDifference(steps, base, same, growing) {
  const both = Math.min(steps.length, base.length), token = same ? ({ id }) => id : content;
  for (let place = 0; place < both; place++) if (token(steps[place]) !== token(base[place])) return place;
  return growing || steps.length === base.length ? -1 : both;
}

/** Whether a text begins with the tokens that are known of it. @param {Pick<Step, "id"|"piece">[]} known @param {Pick<Step, "id"|"piece">[]} steps */
export const goesOn = (known, steps) => known.length <= steps.length && known.every(({ id, piece }, n) => steps[n].id === id && steps[n].piece === piece);
