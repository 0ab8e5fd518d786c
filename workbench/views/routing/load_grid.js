/** Where the cells of the loads stand, in CSS pixels: layers × experts, and below them domains × experts. */
import { limit } from "../shared/values.js";

export const DOMAIN = 18; // height of a domain's row
const ABOVE = 20; // the domains: their heading
const BELOW = 30; // everything: the legend

/**
 * @typedef LoadGrid
 * @prop {number} left  of the first expert
 * @prop {number} top   of the first layer
 * @prop {number} gap   after each group
 * @prop {number} cell  width of an expert
 * @prop {number} row   height of a layer
 *
 * @typedef {{layers: number, experts: number, groups: number}} LoadShape
 */

/** @param {number} width @param {LoadShape} shape @returns {LoadGrid} */
export function loadGrid(width, { layers, experts, groups }) {
  const left = 88, gap = groups > 1 ? 4 : 0;
  return { left, top: 16, gap, cell: Math.max(3, Math.floor((width - left - gap * groups) / experts)), row: limit(Math.floor(330 / layers), 7, 22) };
}

/** Where an expert begins; `size` are the experts of a group. */
export const expertLeft = (grid, size, expert) => grid.left + expert * grid.cell + Math.floor(expert / size) * grid.gap;
export const domainTop = (grid, layers) => grid.top + layers * grid.row + ABOVE;
/** Of the whole picture; a single domain has no row of its own. */
export const loadHeight = (grid, layers, domains) => grid.top + layers * grid.row + (domains > 1 ? ABOVE + domains * DOMAIN : 0) + BELOW;

/**
 * The expert at a point with its layer, or with its domain's place; null beside the cells. The space after a group
 * belongs to its last expert.
 *
 * @param {LoadGrid} grid
 * @param {LoadShape} shape
 * @param {number} domains
 * @param {number[]} point  x and y
 * @returns {{expert: number, layer?: number, domain?: number} | null}
 */
export function loadAt(grid, { layers, experts, groups }, domains, [x, y]) {
  if (x < grid.left || y < grid.top) return null;
  const size = experts / groups, group = limit(Math.floor((x - grid.left) / (size * grid.cell + grid.gap)), 0, groups - 1);
  const expert = group * size + limit(Math.floor((x - expertLeft(grid, size, group * size)) / grid.cell), 0, size - 1);
  const layer = Math.floor((y - grid.top) / grid.row), domain = Math.floor((y - domainTop(grid, layers)) / DOMAIN);
  if (layer < layers) return { expert, layer };
  return domains > 1 && domain >= 0 && domain < domains ? { expert, domain } : null;
}
