/** The tree of what was generated: branches are shown, renamed, removed; changes are undone. */
import { button, element } from "../shared/dom.js";
import { beginning, branchTitle } from "./words.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").BranchNode} BranchNode */

/** @param {State} state */
export function branches(state) {
  const list = element("ul");
  const undo = button("undo", "undo the last change to the branches", () => state.send("undo"), "small");
  const redo = button("redo", "redo", () => state.send("redo"), "small");
  const tree = element("div", "tree", element("div", "row", element("b", "", "Branches"), undo, redo), list);
  /** @type {Map<number, ReturnType<typeof line>>} By id: a line stays as long as its branch, so a click on it is not lost. */
  let lines = new Map();

  function draw() {
    const { nodes, undo: undoes, redo: redoes } = state.told, running = state.get("running"), old = lines;
    tree.hidden = !nodes.length && !undoes && !redoes;
    undo.disabled = running || !undoes;
    redo.disabled = running || !redoes;
    lines = new Map(nodes.map(({ id }) => [id, old.get(id) || line(id)]));
    for (const [id, { element: item }] of old) if (!lines.has(id)) item.remove();
    nodes.forEach((node, place) => {
      const { element: item, show } = lines.get(node.id);
      if (list.children[place] !== item) list.insertBefore(item, list.children[place] || null);
      show(node, running);
    });
  }

  /** The line of one branch. @param {number} id */
  function line(id) {
    /** @type {BranchNode} */
    let node;
    const words = document.createTextNode(""), begins = element("span", "soft small begins");
    const name = button("", "", () => state.send("show", { node: id }), "name");
    const rename = button("✎", "", askForName, "icon"), drop = button("×", "", () => state.send("remove", { node: id }), "icon");
    const item = element("li", "", name, rename, drop);
    name.append(words, " ", begins);

    /** A field instead of the name: Enter and a click elsewhere keep what is typed, Escape does not. */
    function askForName() {
      const input = element("input");
      input.value = node.name;
      input.setAttribute("aria-label", "name of the branch");
      let left = false;
      function leave(keep) {
        if (left) return;
        left = true;
        const typed = input.value.trim();
        if (keep && lines.has(id) && typed && input.value !== node.name) state.send("rename", { node: id, name: typed });
        input.replaceWith(name);
      }
      input.addEventListener("keydown", (event) => {
        if (!["Enter", "Escape"].includes(event.key)) return;
        event.stopPropagation();
        leave(event.key === "Enter");
      });
      input.addEventListener("blur", () => leave(true));
      name.replaceWith(input);
      input.select();
    }

    /** @param {BranchNode} now @param {boolean} running */
    function show(now, running) {
      node = now;
      words.data = node.name;
      begins.textContent = beginning(node.preview);
      describe(name, branchTitle(node), running);
      describe(rename, `rename ${node.name}`, running);
      describe(drop, `remove ${node.name} and its branches`, running);
      const current = id === state.told.current;
      item.classList.toggle("current", current);
      if (current) name.setAttribute("aria-current", "true");
      else name.removeAttribute("aria-current");
      item.style.setProperty("--depth", node.depth);
    }
    return { element: item, show };
  }

  return { element: tree, draw };
}

/** @param {HTMLButtonElement} control @param {string} label @param {boolean} running */
function describe(control, label, running) {
  control.setAttribute("aria-label", label);
  control.title = label;
  control.disabled = running;
}
