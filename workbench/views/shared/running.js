/** What views that generate have alike: two buttons of which one can be pressed, and settings that are being typed. */

/**
 * Let one of two buttons be pressed, to begin or to stop. A button that is disabled loses the keyboard, and with it
 * the key that stops: the other one gets it.
 * @param {HTMLButtonElement} go
 * @param {HTMLButtonElement} halt
 * @param {boolean} running
 */
export function letPress(go, halt, running) {
  const active = document.activeElement;
  go.disabled = halt.disabled = false;
  if (running && active === go) halt.focus();
  if (!running && active === halt) go.focus();
  go.disabled = running;
  halt.disabled = !running;
}

/** What is being typed has told no change yet: let it do so. @param {HTMLElement} root */
export function endTyping(root) {
  const active = document.activeElement;
  if (root.contains(active) && active.matches("input, textarea")) active.dispatchEvent(new Event("change"));
}
