/** The row of controls: layer, filters, what is compared, and how tokens are coloured. */
import { element } from "../shared/dom.js";
import { KINDS, matcher } from "./search.js";
import { SPANS } from "./tokens.js";

/** @param {import("./state.js").State} state */
export function filterRow(state) {
  const { model, page } = state;
  const row = element("div", "row"), problem = element("div", "warning problem"), colouring = element("span", "row");
  problem.hidden = true;
  problem.setAttribute("role", "alert");
  /** What is wrong with an input; stays until an input is right. */
  const say = (text) => { problem.textContent = text; problem.hidden = !text; };

  const pick = (label, options, get, set) => {
    const select = element("select");
    select.setAttribute("aria-label", label); // its label's text would hold all options
    for (const [text, value] of options) select.append(new Option(text, value));
    select.addEventListener("change", () => set(select.value));
    return { holder: element("label", "", `${label} `, select), update: () => { select.value = String(get()); } };
  };
  const same = (names) => names.map((name) => [name, name]);
  const search = element("input"), goTo = element("input");
  search.type = goTo.type = "search";
  search.placeholder = "text or /pattern/, then Enter";
  search.title = "Press Enter to search the tokens' text. Special tokens and bytes, such as [unused9] and <0x0A>, match only if the search contains [unused, or < before a letter, a digit, / or |.";
  search.className = "find";
  // JupyterLab keeps Enter from ending an input.
  const entered = (input, call) => {
    input.addEventListener("change", call);
    input.addEventListener("keydown", ({ key }) => key === "Enter" && call());
  };
  let searched = ""; // the filter that the input last showed: a redraw leaves what somebody is typing
  const showSearch = () => {
    search.value = searched = model.get("search");
    search.classList.remove("bad");
  };
  entered(search, () => {
    search.classList.toggle("bad", !matcher(search.value));
    if (!matcher(search.value)) return say(`${search.value} is not a regular expression.`);
    say("");
    page.set({ search: searched = search.value });
  });
  goTo.placeholder = "17 or 3.17";
  goTo.title = "Press Enter to go to this expert: 17 in the layer shown, 3.17 in layer 3.";
  goTo.size = 11;
  entered(goTo, () => {
    const { data } = state, found = /^\s*(?:(\d+)\s*\.\s*)?(\d+)\s*$/.exec(goTo.value);
    const layer = found?.[1] === undefined ? model.get("layer") : Number(found[1]), expert = found ? Number(found[2]) : -1;
    const good = found && expert < data.experts && layer < data.layers;
    goTo.classList.toggle("bad", Boolean(goTo.value) && !good);
    say("");
    if (good) state.choose({ layer, expert });
    else if (goTo.value) say(`There is no expert ${goTo.value}; experts are 0 to ${data.experts - 1}, layers 0 to ${data.layers - 1}.`);
  });
  const clear = element("button", "plain", "all tokens");
  clear.addEventListener("click", () => {
    page.set({ domain: "all", span: "all", phase: "all", search: "" });
    showSearch();
    say("");
  });

  let built = "", controls = [];
  /** The controls that depend on the model and the texts; left alone where these stay the same. */
  function build() {
    const { data } = state, shape = JSON.stringify([data.layers, data.slots, data.labels]);
    if (built === shape) return;
    built = shape;
    const trait = (label, name, options) => pick(label, options, () => model.get(name), (value) => page.set({ [name]: value }));
    const numbered = (label, name, count) => pick(label, same([...Array(count).keys()]), () => model.get(name), (value) => page.set({ [name]: Number(value) }));
    const layer = numbered("layer", "layer", data.layers), group = numbered("group", "group", data.slots);
    const kind = pick("kind", KINDS, () => (KINDS.some(([, value]) => value === model.get("search")) ? model.get("search") : ""), (value) => page.set({ search: value }));
    const colour = trait("colour", "colour", [["winner of group", "group"], ["winner's margin", "margin"], ["router entropy", "entropy"], ["surprisal", "surprisal"]]);
    const rest = [
      ...(data.labels.length > 1 ? [trait("domain", "domain", same(["all", ...data.labels]))] : []),
      trait("span", "span", same(["all", ...SPANS])),
      trait("phase", "phase", same(["all", "prefill", "decode"])),
      trait("compare with", "compare", [["the other tokens", "others"], ["uniform routing", "uniform"]]),
    ];
    controls = [layer, kind, ...rest, colour, group];
    row.replaceChildren(layer.holder, element("label", "", "go to expert ", goTo), kind.holder, element("label", "", "find tokens ", search), ...rest.map((control) => control.holder), clear);
    colouring.replaceChildren(colour.holder, group.holder);
  }
  return {
    row, problem, colouring, build,
    update: () => controls.forEach((control) => control.update()),
    /** Show the search of the filter, unless it is what the input showed last. */
    follow: () => { if (searched !== model.get("search")) showSearch(); },
  };
}
