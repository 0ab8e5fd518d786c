/** Words on a canvas. */

export const PLAIN_FONT = "11px system-ui, sans-serif"; // which `pen` sets
export const CODE_FONT = "11px monospace";

/**
 * Write along a line that goes up.
 * @param {CanvasRenderingContext2D} context
 */
export function writeUpwards(context, words, x, y) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  context.fillText(words, 0, 0);
  context.restore();
}
