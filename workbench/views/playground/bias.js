/** Tokens that are made more or less probable: the list, and a form that adds one. */
import { button, element } from "../shared/dom.js";
import { visible, withSign } from "./words.js";

/** @param {import("./state.js").State} state */
export function biasList(state) {
  const list = element("div"), form = element("form", "row"), token = element("input"), value = element("input");
  token.size = 12;
  token.placeholder = 'id, text or "7"';
  token.title = 'A number is a token id. A plain word gets a space in front. Quotes mean a token exactly as shown: "7" is the digit, "yes" the word without a space.';
  token.setAttribute("aria-label", "token to bias: its id, or its text (a number in quotes)");
  Object.assign(value, { type: "number", step: 1, value: "-100" });
  value.style.width = "5.5em";
  value.setAttribute("aria-label", "value added to its logit");
  form.append(token, value, element("button", "", "add"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (token.value) state.send("bias", { text: token.value, value: Number(value.value) });
  });

  /** @param {import("./state.js").Told["bias"][number]} bias */
  function chip([id, piece, added]) {
    const named = piece === null ? [] : [element("span", "piece", visible(piece)), " "];
    const without = () => state.get("logit_bias").filter(([other]) => other !== id);
    const drop = button("×", `no bias for ${piece ?? `id ${id}`}`, () => state.set({ logit_bias: without() }), "bare");
    return element("span", "chip", ...named, element("span", "soft small", `id ${id}`), ` ${withSign(added)}`, drop);
  }
  function draw() { list.replaceChildren(...state.told.bias.map(chip)); }

  return { elements: [list, form], field: token, draw };
}
