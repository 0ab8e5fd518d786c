/** The widget in the panel: the page loads it, and tells Python when it may be closed. */
import { button, element } from "../shared/dom.js";

/**
 * @typedef {{getWidget(reference: string): Promise<{render(options: {el: HTMLElement, signal: AbortSignal}): Promise<void>}>}} Host
 *   that loads widgets
 */

/**
 * @param {import("./state.js").State} state
 * @param {Host|undefined} host
 * @param {HTMLElement} holder  that the widget is drawn into
 */
export function widgetInside(state, host, holder) {
  /** @type {string|null} The reference of the widget that is drawn. */
  let shown = null;
  /** @type {AbortController|null} */
  let drawing = null;

  /** From now on a widget may be closed; it must not be while the page is loading it. @param {string} reference */
  function loaded(reference) { state.send("loaded", { inside: reference.split(":").pop() }); }

  /** End the view that is drawn; another widget, or none, is wanted now. @param {string|null} next */
  function leave(next) {
    drawing?.abort();
    shown = next;
  }
  /** @param {string} reference */
  async function open(reference) {
    if (!host) return;
    drawing = new AbortController();
    const { signal } = drawing, child = await host.getWidget(reference).finally(() => loaded(reference));
    if (reference !== shown) return;
    const place = element("div");
    holder.replaceChildren(...(state.get("panel") === "compare" ? [comparedAnew()] : []), place);
    await child.render({ el: place, signal });
  }
  function comparedAnew() {
    const compare = () => { state.typing.send(); state.send("compare"); };
    return element("div", "own", element("div", "row", button("compare the current prompt", "restart the comparison with the prompt and settings above", compare, "small")));
  }
  /** Another widget has come: if its panel was left meanwhile, nobody loads it. */
  function came() {
    const reference = state.get("inside");
    if (reference && reference !== shown) loaded(reference);
  }
  return { shown: () => shown, leave, open, came };
}
