/** Canvases: made, sized for the screen, cleared. */
import { element } from "./dom.js";

/** A canvas with a second one over it for marks; both in a box of the parent. */
export function stage(parent, name, label) {
  const canvas = element("canvas", name), over = element("canvas", "over");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  parent.append(element("div", "stage", canvas, over));
  return { canvas, over };
}

/** A context that draws in CSS pixels on a canvas of this size, which it empties. */
export function pen(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const context = canvas.getContext("2d");
  if (canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio)) context.reset();
  else { // new memory only for a new size
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  return context;
}

/** Clear an overlay without giving it new memory. */
export function wipe(canvas) {
  const context = canvas.getContext("2d");
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.restore();
  return context;
}

export function outline(context, colour, width, x, y, w, h) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(x, y, w, h);
}

/** A pattern of diagonal lines. */
export function hatch(context, colour) {
  const tile = new OffscreenCanvas(6, 6), line = tile.getContext("2d");
  line.strokeStyle = colour;
  line.globalAlpha = 0.5;
  for (const shift of [-6, 0, 6]) { line.moveTo(shift, 6); line.lineTo(shift + 6, 0); }
  line.stroke();
  return context.createPattern(tile, "repeat");
}

/** Where on a canvas an event happened, in CSS pixels. @returns {[number, number]} */
export function spot(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}
