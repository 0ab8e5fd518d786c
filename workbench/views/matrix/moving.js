/** The cell beside another one. Nothing here draws. */

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** @param {string} key */
export const isMove = (key) => Object.hasOwn(MOVES, key);

/**
 * The cell that an arrow key leads to, -1 where there is none.
 * @param {string} key  one of those
 * @param {import("./state.js").Cell[]} cells
 * @param {number} place  of a cell
 */
export function beside(key, cells, place) {
  const [down, along] = MOVES[key], [row, column] = cells[place];
  return cells.findIndex((cell) => cell[0] === row + down && cell[1] === column + along);
}
