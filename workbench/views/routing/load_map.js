/** Layers × experts: the share of tokens that use each, with what chance gives, and the preferred experts. */
import { hatch, outline, pen, spot, stage, wipe } from "../shared/canvas.js";
import { element, refill } from "../shared/dom.js";
import { drawRamp } from "../shared/legend.js";
import { tableOf } from "../shared/table.js";
import { counted, limit } from "../shared/values.js";
import { expertButton } from "./experts.js";
import { DOMAIN, domainTop, expertLeft, loadAt, loadGrid, loadHeight } from "./load_grid.js";
import { panel } from "./panel.js";
import { KINDS } from "./search.js";
import { NONE, percent, verdict } from "./writing.js";

/** @param {import("./state.js").State} state */
export function loadMap(state) {
  const { model } = state, loads = panel("load", "Layers × experts");
  const left = element("div"), rank = element("div", "rank"), two = element("div", "two");
  two.append(left, rank);
  loads.body.append(two);
  const load = stage(left, "load", "share of tokens by layer and expert; left and right move the expert, up and down the layer");
  const note = element("p", "soft small");
  left.append(note);

  /** @type {import("./load_grid.js").LoadGrid} */
  let grid = { left: 88, top: 16, cell: 8, row: 12, gap: 4 };
  let most = 1, hatching = null; // the share of the darkest cell; patterns by the colour of their lines
  let domains = { layer: -1, counts: null }; // that are drawn
  const leftOf = (expert) => expertLeft(grid, state.data.size, expert);

  function draw() {
    const { data, counts, theme } = state;
    const width = state.widthOf(left) || 600;
    grid = loadGrid(width, data);
    const height = loadHeight(grid, data.layers, data.labels.length);
    const context = pen(load.canvas, width, height);
    pen(load.over, width, height);
    load.canvas.dataset.geometry = JSON.stringify(grid);
    hatching = { "#000": hatch(context, "#000"), "#fff": hatch(context, "#fff") };
    most = 2 * counts.chance;
    for (let n = 0; n < counts.counts.length; n++) most = Math.max(most, counts.counts[n] / Math.max(1, counts.kept));
    context.fillStyle = theme.ink;
    context.textAlign = "center";
    if (data.groups > 1) for (let group = 0; group < data.groups; group++) context.fillText(data.size * grid.cell > 44 ? `group ${group}` : String(group), leftOf(group * data.size) + (data.size * grid.cell) / 2, 7);
    context.textAlign = "right";
    const every = Math.ceil(12 / grid.row);
    for (let layer = 0; layer < data.layers; layer++) {
      const top = grid.top + layer * grid.row;
      context.fillStyle = theme.ink;
      if (layer % every === 0) context.fillText(`layer ${layer}`, grid.left - 6, top + grid.row / 2);
    }
    drawCells(context, grid.top, grid.row, data.layers, (layer, expert) => counts.share(layer, expert), (layer, expert) => counts.isBeyond(layer, expert));
    drawLegend(context, height - 26);
    note.textContent = !counts.kept ? NONE : `Share of ${counted(counts.kept)} in which the expert is used. ${counts.others ? `Hatched: within what a random choice of ${counted(counts.kept)} of all ${counted(data.count)} gives (exact hypergeometric` : `Hatched: ${counts.band[0]} to ${counts.band[1]} uses, within what uniform routing of ${counted(counts.kept)} gives (exact binomial`}, 95 % for all ${counts.counts.length} cells together). ${data.grouped ? "A group's experts add up to 100 % by construction. " : ""}Tokens of one text are not independent, so take a mark as a hint.`;
    domains.layer = -1;
  }

  /** Rows of cells, an expert each; hatched where they are not beyond chance, as one picture: cells one by one take four times as long. */
  function drawCells(context, top, height, rows, shareOf, marked) {
    const { data, theme } = state;
    const image = new ImageData(data.experts, rows), pixels = new Uint32Array(image.data.buffer);
    const hatched = { "#000": new Path2D(), "#fff": new Path2D() }; // by the colour of the hatching
    for (let row = 0; row < rows; row++) {
      let ink = null, start = 0; // of a run that is hatched alike
      const end = (expert) => { if (ink) hatched[ink].rect(leftOf(start), top + row * height, leftOf(expert - 1) + grid.cell - leftOf(start), height); };
      for (let expert = 0; expert < data.experts; expert++) {
        const step = Math.round(limit(shareOf(row, expert) / most, 0, 1) * 255), next = marked(row, expert) ? null : theme.inks[step];
        pixels[row * data.experts + expert] = theme.pixels[step];
        if (next !== ink || expert % data.size === 0) { end(expert); [ink, start] = [next, expert]; }
      }
      end(data.experts);
    }
    const buffer = new OffscreenCanvas(data.experts, rows);
    buffer.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    for (let first = 0; first < data.experts; first += data.size) context.drawImage(buffer, first, 0, data.size, rows, leftOf(first), top, data.size * grid.cell, rows * height);
    for (const [ink, path] of Object.entries(hatched)) {
      context.fillStyle = hatching[ink];
      context.fill(path);
    }
    context.fillStyle = theme.paper;
    for (let row = 1; row <= rows; row++) context.fillRect(grid.left, top + row * height - 1, leftOf(data.experts) - grid.left, 1);
    if (grid.cell > 5) for (let expert = 0; expert < data.experts; expert++) context.fillRect(leftOf(expert) + grid.cell - 1, top, 1, rows * height);
  }

  function drawLegend(context, y) {
    const { data, counts, theme } = state, wide = Math.min(200, 10 * grid.cell + 120);
    drawRamp(context, { x: grid.left, y, width: wide, height: 9 }, (x) => theme.ramp(x / wide));
    const at = grid.left + (counts.chance / most) * wide;
    context.fillStyle = theme.ink;
    context.fillRect(at, y - 3, 1.5, 15);
    context.textAlign = "left";
    context.fillText("0", grid.left, y + 18);
    context.fillText(`chance ${percent(counts.chance)}`, at - 4, y + 18);
    context.fillText(percent(most), grid.left + wide + 4, y + 5);
    if (data.grouped === false && data.groups > 1) context.fillText("not one expert of each group", grid.left + wide + 60, y + 5);
  }

  /** A layer's experts by domain, below the map. */
  function drawDomains(layer) {
    const { data, counts, theme } = state;
    if (data.labels.length < 2 || (domains.layer === layer && domains.counts === counts)) return;
    domains = { layer, counts };
    const context = load.canvas.getContext("2d"), top = domainTop(grid, data.layers);
    context.fillStyle = theme.paper;
    context.fillRect(0, top - 19, load.canvas.width, data.labels.length * DOMAIN + 19);
    context.fillStyle = theme.ink;
    context.textAlign = "left";
    context.fillText(`layer ${layer}, by domain`, grid.left, top - 9);
    context.textAlign = "right";
    for (const [number, { label, count, tokens, low, high }] of counts.byDomain(layer, data.experts).entries()) {
      context.fillStyle = theme.ink;
      context.fillText(label.length > 13 ? `${label.slice(0, 12)}…` : label, grid.left - 6, top + number * DOMAIN + DOMAIN / 2);
      drawCells(context, top + number * DOMAIN, DOMAIN, 1, (_, expert) => count[expert] / Math.max(1, tokens), (_, expert) => count[expert] < low || count[expert] > high);
    }
  }

  function drawRank() {
    const { data, counts } = state, layer = model.get("layer");
    const rows = Array.from({ length: data.experts }, (_, expert) => ({ expert, share: counts.share(layer, expert), base: counts.base(layer, expert) }));
    rows.sort((a, b) => b.share - b.base - (a.share - a.base) || a.expert - b.expert);
    state.preferred = rows.map((row) => row.expert);
    const wanted = model.get("search") || [model.get("domain"), model.get("span"), model.get("phase")].filter((name) => name !== "all").join(", ");
    const { kept } = counts, focus = state.choices;
    if (!kept) return refill(rank, focus, element("p", "", NONE));
    refill(
      rank,
      focus,
      element("p", "", `Layer ${layer}, ${wanted ? `${counted(kept)} (${KINDS.find(([, value]) => value && value === wanted)?.[0] || wanted})` : `${kept === 1 ? "" : "all "}${counted(kept)}`}: preferred experts`),
      tableOf(["expert", "group", "share", counts.others ? "others" : "chance", "vs chance"], rows.slice(0, 8).map((row) => [expertButton(data, row.expert, layer), data.group(row.expert), percent(row.share), percent(row.base), verdict(counts.isBeyond(layer, row.expert), row.share > row.base)])),
    );
  }

  /** Frame the layer and the expert, or the experts of a token. */
  function mark({ token, layer, expert }) {
    const { data, theme } = state;
    drawDomains(layer);
    const over = wipe(load.over), top = grid.top + layer * grid.row;
    outline(over, theme.mark, 1, grid.left - 2, top - 1, leftOf(data.experts - 1) + grid.cell - grid.left + 3, grid.row + 1);
    if (expert >= 0) {
      outline(over, theme.ink, 2, leftOf(expert) - 1, top - 1, grid.cell + 1, grid.row + 1);
      if (data.labels.length > 1) outline(over, theme.ink, 1.5, leftOf(expert) - 1, domainTop(grid, data.layers) - 1, grid.cell + 1, data.labels.length * DOMAIN + 1);
    } else if (token >= 0) for (let slot = 0; slot < data.slots; slot++) outline(over, theme.ink, 1, leftOf(data.at(token, layer, slot)), top, grid.cell - 1, grid.row - 1);
  }

  /** The layer and expert under the pointer; on a domain's row, of the selected layer. */
  function find(event) {
    const { data } = state, found = loadAt(grid, data, data.labels.length, spot(load.canvas, event));
    return found && { layer: found.layer ?? model.get("layer"), expert: found.expert };
  }

  return { ...loads, left, canvas: load.canvas, draw, drawRank, mark, find };
}
