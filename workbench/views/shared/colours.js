/** Colours, as [red, green, blue] of 0 to 255. */

export const BLUES = { light: ["f1f6fb", "bcd6ec", "6aaed6", "2b7bba", "08306b"], dark: ["20262e", "1e4066", "2b6ca3", "5ea9dd", "d3ecff"] };
export const css = (rgb) => `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]})`;
export const luminance = (rgb) => (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]) / 255;
