/** Canvases that are sharp on every screen; places on them are in CSS pixels. */

export const PLAIN_FONT = "11px system-ui, sans-serif";
export const CODE_FONT = "11px monospace";

/**
 * Give a canvas a size, and a clean pen to draw on it.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width  CSS pixels
 * @param {number} height  CSS pixels
 */
export function pen(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
  if (canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio)) context.reset();
  else {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  context.scale(ratio, ratio);
  return withWords(context);
}

/**
 * A pen on a canvas as it is, wiped: what is drawn with every move of the pointer.
 * @param {HTMLCanvasElement} canvas
 */
export function wiped(canvas) {
  const context = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return withWords(context);
}

/** @param {CanvasRenderingContext2D} context */
function withWords(context) {
  context.font = PLAIN_FONT;
  context.textBaseline = "middle";
  return context;
}

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

/**
 * Where the pointer is on a canvas, [x, y].
 * @param {HTMLCanvasElement} canvas
 * @param {MouseEvent} event
 * @returns {[number, number]}
 */
export function pointerOn(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}
