/** What colours mean. */
import { css } from "./colours.js";

/**
 * Draw a ramp of colours from left to right.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {{x: number, y: number, width: number, height: number}} place  CSS pixels
 * @param {(pixel: number) => number[]} colourAt  [red, green, blue] of a column of pixels, 0 at the left
 */
export function drawRamp(context, { x, y, width, height }, colourAt) {
  for (let pixel = 0; pixel < width; pixel++) {
    context.fillStyle = css(colourAt(pixel));
    context.fillRect(x + pixel, y, 1, height);
  }
}
