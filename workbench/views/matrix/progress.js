/** Run and Stop, how far the cells are, and what went wrong. */
import { button, element } from "../shared/dom.js";
import { progressWords, runWords } from "./words.js";

/** @param {import("./state.js").State} state */
export function progress(state) {
  const go = button("", "", () => { if (!state.get("running")) state.send("run"); }, "go");
  const halt = button("Stop", "", () => state.send("stop"), "halt");
  const bar = element("progress"), summary = element("span", "soft"), warn = element("div", "warn");
  bar.setAttribute("aria-label", "cells done");
  summary.setAttribute("role", "status");
  warn.setAttribute("role", "alert");
  warn.hidden = true;

  /** @param {string} text  "" takes back what was said */
  function say(text) { [warn.textContent, warn.hidden] = [text || "", !text]; }

  function draw() {
    const { cells, done, failed, error } = state.told, running = state.get("running"), all = cells.length;
    go.textContent = runWords(all, done);
    go.disabled = running || done === all;
    halt.disabled = !running;
    bar.max = Math.max(1, all);
    bar.value = done;
    summary.textContent = progressWords({ all, done, failed }, running ? state.get("doing") : null);
    say(error);
  }
  return { row: element("div", "row", go, halt, bar, summary), warn, draw, say };
}
