/**
 * What the pages of all views share. It stands before the script of each view, in one module with it:
 * a widget is one file.
 *
 * A page tells Python {kind: "hello" | "bye", page} when it comes and goes. Where something is generated,
 * Python counts its pages anew with {kind: "roll"}, which a page answers with {kind: "here", page}.
 */
const STYLES = `
.pw { --ink: var(--jp-ui-font-color1, light-dark(#1f1f1f, #e4e4e4)); --soft: var(--jp-ui-font-color2, light-dark(#5c5c5c, #ababab)); --paper: var(--jp-layout-color0, light-dark(#fff, #15171a)); --shade: var(--jp-layout-color2, light-dark(#f2f2f2, #24282d)); --line: var(--jp-border-color2, light-dark(#d5d5d5, #3b3f45)); --mark: var(--jp-brand-color1, light-dark(#1565c0, #64b5f6)); --warm: light-dark(#f57c00, #ffa040); --code: var(--jp-code-font-family, ui-monospace, monospace);
  color: var(--ink); background: var(--paper); font: 13px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); font-variant-numeric: tabular-nums; }
body[data-jp-theme-light=false] .pw { --warm: #ffa040; }
:root:has(> body > main > .pw) { color-scheme: light dark; }
.pw:not([data-ready]) { max-height: 2.5em; overflow: hidden; } /* before the kernel has answered */
.pw:not([data-ready]) > * { visibility: hidden; }
.pw:not([data-ready])::before { content: "waiting for the kernel: it answers when the running cells have ended …"; }
.pw [hidden] { display: none !important; }
.pw .title { font-size: 15px; font-weight: 600; }
.pw .soft { color: var(--soft); }
.pw .small { font-size: 11.5px; }
.pw .spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.pw > .gone { border-left: 3px solid var(--mark); padding: 2px 8px; margin: 4px 0; }
.pw :focus-visible { outline: 2px solid var(--mark); outline-offset: 1px; }
`;
const GONE = "The kernel that this view belongs to has gone: run its cell again.";
const BLUES = { light: ["f1f6fb", "bcd6ec", "6aaed6", "2b7bba", "08306b"], dark: ["20262e", "1e4066", "2b6ca3", "5ea9dd", "d3ecff"] };

const limit = (value, low, high) => Math.max(low, Math.min(high, value));
/** Why what was typed cannot be taken as a whole number; "" if it can. */
const whyRefused = (label, typed) => {
  const number = Number(typed);
  if (!Number.isInteger(number)) return `${label} ${typed}: expected a whole number.`;
  return Number.isSafeInteger(number) ? "" : `${label} ${typed}: a page knows whole numbers up to 9,007,199,254,740,991. Set a larger one in Python.`;
};
const counted = (number, word = "token") => `${number} ${word}${number === 1 ? "" : "s"}`;
const quoted = (piece) => `“${piece}”`;
const css = (rgb) => `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]})`;
const luminance = (rgb) => (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]) / 255;
/** Numbers of a message, which need not lie where such an array may begin. */
const copied = (view, Kind) => new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

const element = (tag, className, ...content) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...content.filter((part) => part !== undefined && part !== null));
  return node;
};
const named = (node, label) => {
  node.setAttribute("aria-label", label);
  node.title = label;
};
const button = (text, label, call, className = "") => {
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
function refill(node, otherwise, ...content) {
  const told = ({ dataset: { lmSuppressShortcuts, ...own } }) => JSON.stringify(own);
  const before = [...node.querySelectorAll("button")], at = before.indexOf(node.getRootNode().activeElement);
  node.replaceChildren(...content);
  if (at < 0) return;
  const buttons = [...node.querySelectorAll("button")], data = told(before[at]);
  const same = data !== "{}" && buttons.find((button) => told(button) === data);
  (same || buttons[Math.min(at, buttons.length - 1)] || otherwise).focus({ preventScroll: true });
}

/** Write a generated token into its element: its text, and struck through what a stop string cut off. */
function spell(node, { text, cut, piece }) {
  node.replaceChildren(text || (cut ? "" : piece), ...(cut ? [element("s", "", cut)] : []));
  node.classList.toggle("quiet", !text && !cut);
  node.classList.toggle("turning", /[\u202a-\u202e\u2066-\u2069]/.test(node.textContent)); // keep the direction of what follows
}

/** The element that a view is drawn into. */
function rootOf(el, className, styles) {
  const root = element("div", `pw ${className}`, element("style", "", STYLES + styles));
  // JupyterLab's keys (d d deletes a cell) look at the focused element before anything around it.
  root.addEventListener("focusin", ({ target }) => (target.dataset.lmSuppressShortcuts = "true"));
  // It also takes Enter from what is typed into, by a listener on the very element: it must not hear of it.
  root.addEventListener("beforeinput", (event) => event.inputType === "insertLineBreak" && event.stopPropagation(), true);
  el.append(root);
  return root;
}

/** Say at the top of a view that its kernel has gone. */
function tellGone(root) {
  if (root.querySelector(":scope > .gone")) return;
  const line = element("div", "gone", GONE);
  line.setAttribute("role", "alert");
  root.prepend(line);
}

/**
 * What a page and Python tell each other. After a restart of the kernel nothing can be sent any more:
 * then `gone` is called, and `send` and `set` return false.
 */
function talk(model, gone) {
  const page = String(Math.random()); // names this page to Python
  const undo = []; // what is to be done at the end
  const tried = (call) => {
    try {
      call();
      return true;
    } catch {
      gone();
      return false;
    }
  };
  const send = (message) => tried(() => model.send(message));
  return {
    send,
    set: (values) => {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      return tried(() => model.save_changes());
    },
    on: (names, call) => {
      for (const name of [names].flat()) {
        model.on(name, call);
        undo.push(() => model.off(name, call));
      }
    },
    /** Call something whenever the colours around the view change. */
    onTheme: (call) => {
      const themes = new MutationObserver(call), scheme = matchMedia("(prefers-color-scheme: dark)");
      themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
      scheme.addEventListener("change", call);
      undo.push(() => { themes.disconnect(); scheme.removeEventListener("change", call); });
    },
    /** Do something when the page is left. */
    atEnd: (call) => undo.push(call),
    /** Say that the page is there, and ask for what it shows; what is returned ends it. */
    begin: () => {
      const hear = ({ kind }) => { if (kind === "roll") send({ kind: "here", page }); };
      model.on("msg:custom", hear);
      undo.push(() => model.off("msg:custom", hear), () => send({ kind: "bye", page }));
      send({ kind: "hello", page });
      send({ kind: "want" });
      return () => undo.forEach((call) => call());
    },
  };
}
