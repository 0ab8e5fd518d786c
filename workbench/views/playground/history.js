/** Earlier generations: a click brings one back; all of them can be saved as a file. */
import { button, element } from "../shared/dom.js";

/**
 * @typedef Earlier  a generation of the history
 * @prop {string} id
 * @prop {string} when
 * @prop {string} branch  its name in the tree, "" of a root without one
 * @prop {string} prompt
 * @prop {string} thinking
 * @prop {string} answer
 * @prop {string} settings
 */

/** @param {import("./state.js").State} state @param {{entries: Earlier[], note: string}} message */
export function historyPanel(state, { entries, note }) {
  const head = element("tr", "", ...["when", "prompt", "thinking", "answer", "settings"].map((text) => element("th", "", text)));
  /** @param {Earlier} entry */
  function row({ id, when, branch, prompt, thinking, answer, settings }) {
    const restore = button(when, `restore prompt, settings and text of ${when}`, () => state.send("restore", { entry: id }));
    const cells = [[prompt, ""], [thinking, "soft"], [answer, ""], [settings, "soft"]].map(([text, style]) => element("td", style, text));
    return element("tr", "", element("td", "", restore, element("div", "soft", branch)), ...cells);
  }
  const table = element("table", "", element("thead", "", head), element("tbody", "", ...entries.map(row)));
  const exports = ["jsonl", "html"].map((format) => button(`export ${format.toUpperCase()}`, "", () => state.send("export", { format }), "small"));
  for (const control of exports) control.disabled = !entries.length;
  return [element("div", "row", element("span", "soft small", note), element("span", "push"), ...exports), element("div", "scroll", table)];
}

/** Have the browser save a file. @param {{name: string, content: string}} message */
export function saveFile({ name, content }) {
  const link = document.createElement("a"), address = URL.createObjectURL(new Blob([content]));
  Object.assign(link, { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
