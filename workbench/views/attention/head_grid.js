/** Where the small maps of all heads stand: a row per layer, heads that share a key–value head side by side. */
import { limit } from "../shared/values.js";

/**
 * @typedef Boxes  in CSS pixels
 * @prop {number} cell   along a side of a small map
 * @prop {number} label  width of the words on the left
 * @prop {number} gap    between heads of two key–value heads
 * @prop {number} top    height of the words above
 *
 * @typedef {{layers: number[], heads: number, key_heads: number}} Heads  of a model; layers that are recorded
 */

/** @type {Boxes} Until there is a text. */
export const FIRST_BOXES = { cell: 30, label: 48, gap: 6, top: 30 };

/**
 * @param {Heads} model
 * @param {number} width  pixels of the view
 * @param {number} zoomed  1, or how many times as large the maps are to be
 * @returns {{boxes: Boxes, column: number}}  with the width of the column that they stand in
 */
export function measuredGrid({ layers, heads, key_heads }, width, zoomed) {
  const gap = key_heads < heads ? 7 : 0, label = 52;
  const room = width < 760 ? width : Math.floor(width * 0.5);
  const fit = Math.min(72, Math.floor((room - label - gap * key_heads) / heads), Math.floor(580 / layers.length));
  const cell = limit(Math.round(Math.max(10, fit) * zoomed), 8, 160);
  return { boxes: { cell, label, gap, top: gap ? 34 : 20 }, column: limit(label + gap * key_heads + heads * cell + 4, 160, room) };
}

/**
 * Left edge of a head's small map.
 * @param {Boxes} boxes
 * @param {Heads} model
 */
export const headLeft = (boxes, model, head) => boxes.label + head * boxes.cell + Math.floor(head / (model.heads / model.key_heads)) * boxes.gap;

/**
 * The head at a point.
 * @param {Boxes} boxes
 * @param {Heads} model
 * @param {[number, number]} point
 * @returns {[number, number]|null}  [layer, head]
 */
export function headAt(boxes, model, [px, py]) {
  const row = Math.floor((py - boxes.top) / boxes.cell);
  if (row < 0 || row >= model.layers.length) return null;
  for (let head = 0; head < model.heads; head++) {
    const left = headLeft(boxes, model, head);
    if (px >= left && px < left + boxes.cell) return [model.layers[row], head];
  }
  return null;
}
