/** Pointer and keyboard in the answer: which token's alternatives are open, and which token has the keyboard. */

/** @typedef {import("./state.js").State} State */

const LEAVING = 220; // milliseconds in which the pointer may go from a token to its alternatives

/**
 * @param {State} state
 * @param {import("./answer.js").Answer} answer
 * @param {import("./alternatives.js").Alternatives} alternatives
 */
export function pointing(state, { said, nodes }, alternatives) {
  const { root } = state, { element: box, shown } = alternatives;
  let here = -1, quiet = false, leaving = 0; // the token with the keyboard; whether its alternatives stay closed

  const placeOf = (event) => Number(event.target.closest?.(".token")?.dataset.place ?? -1);
  function explain(place, held) {
    clearTimeout(leaving);
    alternatives.show(place, held);
  }
  function close() {
    clearTimeout(leaving);
    alternatives.close();
  }
  function leave() {
    if (shown.held) return;
    clearTimeout(leaving);
    leaving = setTimeout(close, LEAVING);
  }
  /** Take the keyboard to a token. */
  function move(place, show = true) {
    if (!nodes.length) return;
    if (nodes[here]) nodes[here].tabIndex = -1;
    here = Math.max(0, Math.min(nodes.length - 1, place));
    if (nodes[here].closest(".folded")) state.set({ folded: false });
    nodes[here].tabIndex = 0;
    quiet = !show;
    nodes[here].focus();
    quiet = false;
    if (!show) return;
    close();
    explain(here, false);
  }

  // -- pointer

  said.addEventListener("pointerover", (event) => {
    const place = placeOf(event);
    if (place < 0) leave();
    else if (!shown.held) explain(place, false);
  });
  said.addEventListener("pointerleave", leave);
  box.addEventListener("pointerenter", () => clearTimeout(leaving));
  box.addEventListener("pointerleave", leave);
  said.addEventListener("click", (event) => {
    const place = placeOf(event);
    if (place < 0) return;
    state.set({ token: place });
    close();
    explain(place, true);
    move(place, false);
  });
  root.addEventListener("pointerdown", ({ target }) => {
    if (shown.held && target instanceof Node && !box.contains(target) && !said.contains(target)) close();
  });

  // -- keyboard

  said.addEventListener("keydown", (event) => {
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: nodes.length - 1 }[event.key];
    const opens = (event.key === "Enter" && !event.ctrlKey && !event.metaKey) || event.key === " " || event.key === "ArrowDown";
    if (event.target.closest("button") || (to === undefined && !opens)) return;
    if (to !== undefined) move(to);
    else {
      if (here < 0) move(0);
      state.set({ token: here });
      explain(here, true);
      (box.querySelector("td button:not(:disabled)") || box.querySelector("input"))?.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  });
  said.addEventListener("focusin", (event) => {
    const place = placeOf(event);
    if (place >= 0 && !quiet && box.hidden && event.target.matches(":focus-visible")) explain(place, false);
  });
  box.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    const all = [...box.querySelectorAll("button:not(:disabled), input")], at = all.indexOf(document.activeElement);
    all[Math.max(0, Math.min(all.length - 1, at + step))]?.focus();
    event.preventDefault();
    event.stopPropagation();
  });

  /** Another answer is on the page. */
  function forget() {
    close();
    here = -1;
  }
  /** Close what is open, and take the keyboard back to its token; false if nothing is. */
  function escape() {
    if (box.hidden) return false;
    const { place } = shown;
    close();
    if (nodes[place] && root.contains(document.activeElement)) move(place, false);
    return true;
  }
  return { close, forget, escape };
}
