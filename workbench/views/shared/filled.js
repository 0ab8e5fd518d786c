/** Fields that show a value and are typed into: a redraw leaves what somebody is typing. */

/** @type {WeakMap<HTMLElement, unknown>} The value that a field shows. */
const shownValues = new WeakMap();

/** Show a value, unless it is the one that was shown last. @param {HTMLInputElement|HTMLTextAreaElement|HTMLSelectElement} field */
export function fill(field, value) {
  if (shownValues.get(field) === value) return;
  shownValues.set(field, value);
  field.value = value;
}

/** What was typed has been taken or refused: the next value is shown, whichever it is. @param {HTMLElement} field */
export function fillAnew(field) { shownValues.delete(field); }
