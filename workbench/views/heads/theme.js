/** The colours around the view. */
import { BLUES, between, fromHex, luminance } from "../shared/colours.js";
import { element } from "../shared/dom.js";

/**
 * `mark` of what is selected, `ramp` of a share from 0 to 1.
 *
 * @typedef {{ink: string, soft: string, mark: string, ramp: (share: number) => number[]}} Theme
 */

/** @param {HTMLElement} root @returns {Theme} */
export function themeOf(root) {
  const { color: ink, backgroundColor } = getComputedStyle(root), probe = element("span");
  root.append(probe);
  const named = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const mark = named("mark"), soft = named("soft");
  probe.remove();
  const paper = (backgroundColor.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map(Number);
  const stops = BLUES[luminance(paper) > 0.5 ? "light" : "dark"].map(fromHex);
  return { ink, soft, mark, ramp: (share) => between(stops, share) };
}
