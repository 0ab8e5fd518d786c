/** Colours, as [red, green, blue] of 0 to 255. */

export const BLUES = { light: ["f1f6fb", "bcd6ec", "6aaed6", "2b7bba", "08306b"], dark: ["20262e", "1e4066", "2b6ca3", "5ea9dd", "d3ecff"] };
export const css = (rgb) => `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]})`;
export const luminance = (rgb) => (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]) / 255;
/** Black or white, whichever can be read on a colour. */
export const onTop = (rgb) => (luminance(rgb) > 0.5 ? "#000" : "#fff");
/** A colour as a number of an ImageData that is seen as Uint32Array. @param {number[]} rgb */
export const pixel = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
/** The colour at a share of the way, 0 to 1, along stops; what is not a number is the first. */
export const between = (stops, share) => {
  const x = Math.max(0, Math.min(1, Number.isFinite(share) ? share : 0)) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(x));
  return stops[low].map((part, c) => Math.round(part + (x - low) * (stops[low + 1][c] - part)));
};
/** "f1f6fb" as [241, 246, 251]. */
export const fromHex = (hex) => [0, 2, 4].map((c) => parseInt(hex.slice(c, c + 2), 16));
