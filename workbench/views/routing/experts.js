/** An expert as a swatch of its colour, and as a button that selects it. */
import { element } from "../shared/dom.js";

export const swatch = (data, expert) => {
  const node = element("span", "swatch", String(expert));
  node.style.background = data.colours[expert];
  node.style.color = data.inks[expert];
  return node;
};

export const expertButton = (data, expert, layer) => {
  const button = element("button", "", swatch(data, expert));
  button.setAttribute("aria-label", `expert ${expert} of layer ${layer}`);
  button.dataset.expert = expert;
  button.dataset.layer = layer;
  return button;
};
