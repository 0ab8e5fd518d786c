/** Elements of the page. */

export const GONE = "This view's kernel is gone: run its cell again.";

export const element = (tag, className, ...content) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...content.filter((part) => part !== undefined && part !== null));
  return node;
};
export const named = (node, label) => {
  node.setAttribute("aria-label", label);
  node.title = label;
};
export const button = (text, label, call, className = "") => {
  const node = element("button", className, text);
  node.type = "button";
  if (label) named(node, label);
  node.addEventListener("click", call);
  return node;
};
/**
 * Put something else into a node. If one of its buttons had the keyboard's focus, the one with the same
 * data gets it, or the one in its place, or `otherwise`.
 */
export function refill(node, otherwise, ...content) {
  const told = ({ dataset }) => JSON.stringify(Object.entries(dataset).filter(([name]) => name !== "lmSuppressShortcuts"));
  const before = [...node.querySelectorAll("button")], at = before.indexOf(node.getRootNode().activeElement);
  node.replaceChildren(...content);
  if (at < 0) return;
  const buttons = [...node.querySelectorAll("button")], data = told(before[at]);
  const same = data !== "[]" && buttons.find((button) => told(button) === data);
  (same || buttons[Math.min(at, buttons.length - 1)] || otherwise).focus({ preventScroll: true });
}

/** Write a generated token into its element: its text, and struck through what a stop string cut off. */
export function spell(node, { text, cut, piece }) {
  node.replaceChildren(text || (cut ? "" : piece), ...(cut ? [element("s", "", cut)] : []));
  node.classList.toggle("quiet", !text && !cut);
  node.classList.toggle("turning", /[\u202a-\u202e\u2066-\u2069]/.test(node.textContent)); // keep the direction of what follows
}

/** The element that a view is drawn into. */
export function rootOf(el, className) {
  const root = element("div", `pw ${className}`, element("style", "", STYLES));
  // JupyterLab's keys (d d deletes a cell) look at the focused element before anything around it.
  root.addEventListener("focusin", ({ target }) => (target.dataset.lmSuppressShortcuts = "true"));
  // It also takes Enter from what is typed into, by a listener on the very element: it must not hear of it.
  root.addEventListener("beforeinput", (event) => event.inputType === "insertLineBreak" && event.stopPropagation(), true);
  el.append(root);
  return root;
}

/** Say at the top of a view that its kernel has gone. */
export function tellGone(root) {
  if (root.querySelector(":scope > .gone")) return;
  const line = element("div", "gone", GONE);
  line.setAttribute("role", "alert");
  root.prepend(line);
}
