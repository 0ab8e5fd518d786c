/** Python that makes the text again, to be copied. */
import { button, element } from "../shared/dom.js";

/** @param {{code: string, note: string}} message */
export function copyPanel({ code, note }) {
  const box = element("textarea", "code"), done = element("span", "soft small");
  box.value = code;
  box.readOnly = true;
  box.rows = Math.min(24, code.split("\n").length);
  box.setAttribute("aria-label", "Python code that reproduces this text");
  async function copy() {
    box.select();
    const written = navigator.clipboard ? await navigator.clipboard.writeText(code).then(() => true, () => false) : false; // not over http
    done.textContent = written || document.execCommand("copy") ? "copied" : "The browser blocks the clipboard. The code is selected: press Ctrl+C.";
  }
  return [element("div", "row", button("copy", "copy the code", copy), done, element("span", "soft small", note || "")), box];
}
