/** What is to be drawn anew is gathered, and drawn once a frame. */

/**
 * @param {(what: Set<string>) => void} draw
 */
export function gathered(draw) {
  /** @type {Set<string>} */
  const what = new Set();
  let frame = 0;
  const flush = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    draw(what);
    what.clear();
  };
  return {
    /** Have something drawn in the next frame. @param {string[]} names */
    schedule: (...names) => {
      for (const name of names) what.add(name);
      frame ||= requestAnimationFrame(flush);
    },
    /** Draw at once, with what was scheduled. @param {string[]} names */
    now: (...names) => {
      for (const name of names) what.add(name);
      flush();
    },
    stop: () => cancelAnimationFrame(frame),
  };
}
