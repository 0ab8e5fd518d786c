/** Python that makes a text again, to be copied. */
import { button, element } from "../shared/dom.js";

/** @param {string} python  "" where there is none */
export function copying(python) {
  const code = element("textarea", "code"), said = element("span", "copied soft small");
  code.value = python;
  code.readOnly = code.hidden = true;
  code.rows = Math.min(24, python.split("\n").length);
  code.setAttribute("aria-label", "Python code that reproduces this text");
  said.setAttribute("aria-live", "polite");
  const copy = button("Copy as Python", "Copy as Python: a cell that reproduces this text", async () => {
    code.hidden = false;
    code.select();
    let copied = false;
    if (navigator.clipboard) copied = await navigator.clipboard.writeText(code.value).then(() => true, () => false); // not over http
    copied = copied || document.execCommand("copy");
    code.hidden = copied;
    if (copied) copy.focus();
    said.textContent = copied ? "copied" : "The browser blocks the clipboard. The code is selected: press Ctrl+C.";
  });
  copy.hidden = !python;
  return { elements: [copy, said], code };
}
