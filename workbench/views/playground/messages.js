/**
 * Messages from Python, and what they change on the page:
 * {kind: "state", steps} with all of `Told`: everything, for a page that is new or has missed something;
 * {kind: "tree"} with nodes, current, undo, redo, status, error and made: a generation or a change of branches has ended;
 * {kind: "steps", from, steps, status}: new tokens, and those that are there already where another text is theirs now;
 * {kind: "status", status}; {kind: "count", count, special}; {kind: "bias", bias}; {kind: "presets", presets};
 * {kind: "note", text, bad}; {kind: "done", asked, text}: a bias or a preset was taken as it was typed;
 * {kind: "python", code, note}; {kind: "history", entries, note}; {kind: "file", name, content}.
 *
 * Messages to Python, besides those of all views:
 * {kind}: want, generate, stop, follow_up, undo, redo, compare, python, history;
 * {kind: "branch", place, token} or {kind: "branch", place, text}; {kind: "show" | "remove", node};
 * {kind: "rename", node, name}; {kind: "bias", text, value}; {kind: "save_preset", name};
 * {kind: "restore", entry}; {kind: "export", format}; {kind: "loaded", inside} for the id of a widget.
 */
import { saveFile } from "./history.js";

/** @typedef {import("./state.js").State} State */

/**
 * @param {State} state
 * @param {object} parts
 * @param {{draw: () => void}} parts.asked
 * @param {ReturnType<typeof import("./settings.js").settings>} parts.chosen
 * @param {ReturnType<typeof import("./run.js").run>} parts.runs
 * @param {import("./answer.js").Answer} parts.answered
 * @param {ReturnType<typeof import("./panels.js").panels>} parts.open
 * @param {(steps: import("./state.js").Step[]) => void} parts.drawAll
 * @param {() => void} parts.drawEnded
 */
export function messages(state, { asked, chosen, runs, answered, open, drawAll, drawEnded }) {
  const { told } = state;
  const hear = {
    state: ({ steps, ...content }) => {
      Object.assign(told, content);
      drawAll(steps);
    },
    tree: (content) => {
      Object.assign(told, content);
      drawEnded();
      state.speak(told.error || told.status.reason || "ended");
    },
    steps: ({ from, steps, status }) => {
      if (!answered.take(from, steps)) return state.send("want"); // some were missed
      told.status = status;
      runs.draw();
    },
    status: ({ status }) => {
      told.status = status;
      runs.draw();
    },
    count: ({ count, special }) => {
      Object.assign(told, { count, special });
      asked.draw();
    },
    bias: ({ bias }) => {
      told.bias = bias;
      chosen.bias.draw();
    },
    presets: ({ presets }) => {
      told.presets = presets;
      chosen.preset.draw();
    },
    note: ({ text, bad }) => {
      if (!bad) told.error = "";
      state.say(text, bad);
      runs.draw();
    },
    done: ({ asked: what, text }) => {
      const { field } = { bias: chosen.bias, save_preset: chosen.ownPreset }[what];
      if (field.value.trim() === text.trim()) field.value = ""; // nothing else was typed meanwhile
    },
    python: open.showPython,
    history: open.showHistory,
    file: saveFile,
  };
  return ({ kind, ...content }) => {
    state.hear();
    if (Object.hasOwn(hear, kind)) hear[kind](content);
  };
}
