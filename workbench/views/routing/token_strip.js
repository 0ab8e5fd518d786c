/** The tokens as text, coloured by a group's winner or by a number, and an overview of all of them. */
import { css, onTop } from "../shared/colours.js";
import { pen, spot } from "../shared/canvas.js";
import { element } from "../shared/dom.js";
import { drawRamp } from "../shared/legend.js";
import { swatch } from "./experts.js";
import { panel } from "./panel.js";
import { SPANS } from "./tokens.js";

/**
 * @param {import("./state.js").State} state
 * @param {HTMLElement} colouring  the controls of the colours
 * @param {(token: number) => void} scrollTo
 */
export function tokenStrip(state, colouring, scrollTo) {
  const { model, details } = state;
  const tokens = panel("tokens", "Tokens"), legend = element("span", "row small soft"), strip = element("div", "strip");
  strip.tabIndex = 0;
  strip.setAttribute("role", "listbox");
  strip.setAttribute("aria-label", "tokens; arrow keys move the selection, up and down the layer, Escape clears it");
  const overview = element("canvas", "overview");
  overview.setAttribute("aria-label", "all tokens; drag to move the window");
  tokens.body.append(overview, strip);
  tokens.bar.append(colouring, legend);

  const scales = { margin: 1, entropy: 1, surprisal: 1 };
  let nodes = []; // of the tokens in the window

  function drawOverview() {
    const { data, place, theme, from, counts } = state, count = state.shown();
    overview.hidden = count >= data.count;
    if (overview.hidden) return;
    const width = place.width - place.left, context = pen(overview, place.width, 22);
    const layer = model.get("layer"), expert = model.get("expert");
    context.fillStyle = theme.ink;
    context.fillText("overview", 2, 11);
    for (let x = 0; x < width; x++) {
      const token = Math.floor((x * data.count) / width), end = Math.max(token + 1, Math.floor(((x + 1) * data.count) / width));
      let used = 0;
      for (let t = token; t < end && expert >= 0; t++) if (data.slot(t, layer, expert) >= 0) used++;
      context.globalAlpha = counts.keep[token] ? 1 : 0.2;
      context.fillStyle = css(expert < 0 ? data.palette[data.at(token, layer, model.get("group"))] : theme.ramp(used / (end - token)));
      context.fillRect(place.left + x, 3, 1, 16);
    }
    context.globalAlpha = 1;
    context.strokeStyle = theme.ink;
    context.lineWidth = 2;
    context.strokeRect(place.left + (from * width) / data.count, 1, Math.max(4, (count * width) / data.count), 20);
  }

  function build() {
    const { data, from } = state, end = from + state.shown(), parts = [];
    nodes = [];
    for (let token = from; token < end; token++) {
      if (token === from || data.starts.includes(token)) {
        const part = element("div", "", ...(data.documents.length > 1 ? [element("h5", "", data.label(token))] : []));
        part.setAttribute("role", "presentation");
        parts.push(part);
      }
      const piece = data.pieces[token], node = element("span", `token ${SPANS[data.kind[token]]}`, piece);
      if (/^(<.+>|\[unused\d+\])$/.test(piece)) node.classList.add("special");
      node.setAttribute("role", "option");
      nodes.push(node);
      parts.at(-1).append(node);
      if (piece === "<0x0A>") parts.at(-1).append(element("br"));
    }
    strip.classList.toggle("many", parts.length > 1);
    strip.replaceChildren(...parts);
    paint();
  }

  function paint() {
    const { data, theme, from, counts } = state;
    const layer = model.get("layer"), group = model.get("group"), colour = model.get("colour"), got = colour === "margin" || colour === "entropy" ? details.ofLayer(layer) : null;
    const values = { margin: (token) => details.margin(layer, token, group), entropy: (token) => (got.entropy && token < got.tokens ? got.entropy[token] : NaN), surprisal: (token) => data.bits[token] }[colour];
    if (values && colour !== "entropy") {
      scales[colour] = 0;
      for (let token = 0; token < data.count; token++) if (values(token) > scales[colour]) scales[colour] = values(token);
    }
    for (const [place, node] of nodes.entries()) {
      const token = from + place;
      let rgb = null, number = "";
      if (!values) {
        const expert = data.at(token, layer, group);
        rgb = data.palette[expert];
        number = String(expert);
      } else if (Number.isFinite(values(token))) rgb = theme.ramp(values(token) / (scales[colour] || 1));
      const shade = rgb ? `background:${css(rgb)};color:${onTop(rgb)}` : "", out = !counts.keep[token];
      if (node.shade !== shade) node.style.cssText = node.shade = shade;
      if (node.number !== number) node.dataset.number = node.number = number;
      if (node.out !== out) node.classList.toggle("out", (node.out = out));
    }
    drawLegend(colour, layer, group);
  }

  function drawLegend(colour, layer, group) {
    const { data, theme } = state;
    if (colour === "group") {
      const first = data.grouped ? group * data.size : 0, experts = Array.from({ length: Math.min(16, data.size) }, (_, n) => first + n);
      legend.replaceChildren(`layer ${layer}, experts:`, ...experts.map((expert) => swatch(data, expert)));
    } else {
      const needed = { margin: "router_logits", entropy: "router_logits", surprisal: "chosen_logprobs" }[colour];
      const words = { margin: `0 to ${scales.margin.toFixed(3)}: lead over the second in group ${group}, layer ${layer}`, entropy: `0 (certain) to 1 (uniform); H(p) / ln ${data.experts}, layer ${layer}`, surprisal: `0 to ${scales.surprisal.toFixed(1)} bits; −log₂ of the probability the token was given` }[colour];
      const scale = element("canvas");
      drawRamp(pen(scale, 90, 10), { x: 0, y: 0, width: 90, height: 10 }, (x) => theme.ramp(x / 89));
      legend.replaceChildren(...(data.missing.includes(needed) ? [`this trace has no ${needed}`] : [scale, words]));
    }
    if (data.kind.some((kind, token) => kind && token < data.count)) legend.append(" · dotted: thinking, solid: answer");
  }

  /** Frame what is pointed at, selected, and what uses an expert. */
  function mark(layer, expert, selected) {
    const { data, from, hover } = state;
    for (const [place, node] of nodes.entries()) {
      const which = from + place, user = expert >= 0 && data.slot(which, layer, expert) >= 0;
      if (node.user !== user) node.classList.toggle("user", (node.user = user));
      if (node.near !== (which === hover?.token)) node.classList.toggle("hover", (node.near = which === hover?.token));
      if (node.fixed !== (which === selected)) node.setAttribute("aria-selected", String((node.fixed = which === selected)));
    }
  }

  /** Bring a token into sight within the strip; the page stays where it is. */
  function reveal(token) {
    const node = nodes[token - state.from];
    if (!node) return;
    const top = node.offsetTop, end = top + node.offsetHeight + 12;
    if (top < strip.scrollTop) strip.scrollTop = top - 6;
    else if (end > strip.scrollTop + strip.clientHeight) strip.scrollTop = end - strip.clientHeight;
  }

  const tokenOf = (event) => { const index = nodes.indexOf(event.target.closest?.(".token")); return index < 0 ? -1 : state.from + index; };
  strip.addEventListener("pointermove", (event) => { const token = tokenOf(event); if (token !== (state.hover?.token ?? -1)) state.point(token < 0 ? null : { token }); });
  strip.addEventListener("click", (event) => { const token = tokenOf(event); if (token >= 0) state.choose({ token }); });
  const drag = (event) => {
    if (!(event.buttons & 1)) return;
    const [x] = spot(overview, event), { place, data } = state;
    scrollTo(Math.round(((x - place.left) / (place.width - place.left)) * data.count - state.shown() / 2));
  };
  overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); drag(event); });
  overview.addEventListener("pointermove", drag);

  return { ...tokens, strip, drawOverview, build, paint, mark, reveal };
}
