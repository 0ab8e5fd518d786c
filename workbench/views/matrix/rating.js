/** The stars of a cell. */
import { button, element } from "../shared/dom.js";

/**
 * @param {string} label
 * @param {(value: number) => void} rate  called with the star that was pressed
 */
export function stars(label, rate) {
  const group = element("span");
  group.setAttribute("role", "radiogroup");
  group.setAttribute("aria-label", label);
  const all = [1, 2, 3, 4, 5].map((value) => {
    const star = button("☆", `${value} of 5`, (event) => { event.stopPropagation(); rate(value); });
    star.title += "; click again or press 0 to remove the rating";
    star.setAttribute("role", "radio");
    group.append(star);
    return star;
  });
  /** @param {number|null} rating */
  function draw(rating) {
    all.forEach((star, n) => {
      const under = n < (rating || 0);
      star.textContent = under ? "★" : "☆";
      star.classList.toggle("under", under);
      star.setAttribute("aria-checked", String(n + 1 === rating));
    });
  }
  return { element: group, draw };
}
