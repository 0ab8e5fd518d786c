/** Arrow keys, Home, End and Escape: what they select. */
import { limit } from "../shared/values.js";

/**
 * What a key selects; null for a key that is none of these. Left and right go along the tokens, or along the
 * experts, up and down along the layers, Home and End as many steps as there are tokens; Escape selects no token
 * and no expert.
 *
 * @param {string} key
 * @param {"token" | "expert"} along
 * @param {{token: number, layer: number, expert: number}} now  token on the joined axis; -1 for none
 * @param {{count: number, layers: number, experts: number}} shape
 * @returns {{token?: number, layer?: number, expert?: number} | null}
 */
export function selectedBy(key, along, now, shape) {
  if (key === "Escape") return { token: -1, expert: -1 };
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-shape.count, 0], End: [shape.count, 0] }[key];
  if (!step) return null;
  const [aside, down] = step, layer = limit(now.layer + down, 0, shape.layers - 1);
  if (along === "expert") return { layer, expert: limit(Math.max(-1, now.expert) + aside, aside ? 0 : -1, shape.experts - 1) };
  return { layer, ...(aside ? { token: limit(now.token + aside, 0, shape.count - 1) } : {}) };
}

/**
 * Let the keys that reach a node select.
 *
 * @param {HTMLElement} node
 * @param {"token" | "expert"} along
 * @param {import("./state.js").State} state
 */
export function listenToKeys(node, along, state) {
  node.addEventListener("keydown", (event) => {
    if (!state.data || event.ctrlKey || event.metaKey || event.altKey) return;
    const now = { token: state.pinned(), layer: state.get("layer"), expert: state.get("expert") };
    const selected = selectedBy(event.key, along, now, state.data);
    if (!selected) return;
    event.preventDefault();
    event.stopPropagation();
    state.hover = null;
    state.choose(selected);
  });
}
