/**
 * The playground: a conversation or a text, settings, the streamed answer with what else could have
 * come, its branches, and what happened inside. Here the parts are put together and the keyboard is heard.
 *
 * A prompt's way to a token on the page: run.js asks Python, messages.js hears the steps, and answer.js writes them.
 *
 * @typedef Model
 * @property {"chat"|"raw"} mode    whether the conversation or `text` is read
 * @property {string} system        the system prompt
 * @property {{role: string, content: string}[]} turns  earlier turns of the conversation
 * @property {string} prompt        its last user turn
 * @property {string} text          what the model reads, special tokens by name; an edit makes mode raw
 * @property {"slow"|"fast"|"auto"} thinking
 * @property {string} preset        name of the settings that are chosen, "" for one's own
 * @property {number} temperature
 * @property {number} top_p
 * @property {number} top_k
 * @property {number} min_p
 * @property {number} repetition_penalty
 * @property {[number, number][]} logit_bias  token id, value added to its logit
 * @property {string[]} stop_strings
 * @property {number} max_new_tokens
 * @property {number} seed
 * @property {"none"|"probability"|"entropy"|"surprisal"} colour  of the tokens
 * @property {boolean} folded       whether thinking is folded
 * @property {number} token         selected token of the generation, -1 for none
 * @property {""|"routing"|"attention"|"compare"|"python"|"history"} panel  what is open below
 * @property {string|null} inside   reference of the widget in the panel
 * @property {boolean} running
 */
import { GONE, element, rootOf } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { alternatives } from "./alternatives.js";
import { answer } from "./answer.js";
import { branches } from "./branches.js";
import { conversation } from "./conversation.js";
import { messages } from "./messages.js";
import { notes } from "./notes.js";
import { panels } from "./panels.js";
import { pointing } from "./pointing.js";
import { run } from "./run.js";
import { settings } from "./settings.js";
import { State } from "./state.js";

/** @param {{model: any, el: HTMLElement, host?: import("./inside.js").Host}} page */
function render({ model, el, host }) {
  const root = rootOf(el, "pw-play"), lines = notes();
  const page = talk(model, () => lines.say(`${GONE} What was generated is in History.`, true));
  const state = new State(model, page, root, lines);

  const title = element("span", "title", state.told.title), about = element("span", "soft");
  const asked = conversation(state), chosen = settings(state), runs = run(state), answered = answer(state), tree = branches(state);
  const others = alternatives(state, answered.nodes), pointer = pointing(state, answered, others), open = panels(state, host);
  const halves = element("div", "halves alone", element("div", "", ...answered.elements), tree.element);
  root.append(
    element("div", "row", title, about, element("span", "push"), ...asked.choices), asked.element, chosen.element,
    ...runs.elements, ...lines.elements, halves, others.element, open.element,
  );

  function drawTree() {
    tree.draw();
    halves.classList.toggle("alone", tree.element.hidden);
  }
  /** What is said of the text on the page: an error, or with what else it was made. */
  function drawNote() { state.say(state.told.error || state.told.made, Boolean(state.told.error)); }
  /** The same answer, once it has ended or its branch has changed. */
  function drawEnded() {
    answered.drawTail();
    runs.draw();
    drawTree();
    open.draw();
    drawNote();
    open.ask();
  }
  /** All there is. @param {import("./state.js").Step[]} steps */
  function drawAll(steps) {
    title.textContent = state.told.title;
    about.textContent = state.told.about;
    pointer.forget();
    answered.rewrite(steps);
    asked.draw();
    chosen.draw();
    runs.drawMode();
    answered.drawRunning();
    answered.drawColours();
    answered.drawFold();
    drawEnded();
    root.dataset.ready = "true";
  }
  function drawRunning() {
    if (state.get("running")) state.speak("generating");
    pointer.close();
    answered.drawRunning();
    runs.draw();
    drawTree();
    open.draw();
  }

  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) runs.generate();
    else if (event.key !== "Escape") return;
    else if (state.get("running")) runs.stop();
    else if (!pointer.escape()) {
      if (state.get("token") < 0) return;
      state.set({ token: -1 });
    }
    event.preventDefault();
    event.stopPropagation();
  });
  state.on(["mode", "system", "turns", "prompt", "text", "thinking"], asked.draw);
  state.on(["running"], () => { state.hear(); drawRunning(); });
  page.on("msg:custom", messages(state, { asked, chosen, runs, answered, open, drawAll, drawEnded }));
  const sized = new ResizeObserver(others.beside);
  sized.observe(root);
  page.atEnd(() => { sized.disconnect(); open.leave(); });
  return page.begin();
}

export default { render };
