/** What is typed into the page, and when Python gets it: after a pause, at the end, or before a button does something. */

const PAUSE = 250; // milliseconds without a key

export class Typing {
  /** @type {Map<string, () => unknown>} Trait → reads what was typed for it and not sent yet. */
  #waiting = new Map();
  #timer = 0;
  #set;

  /** @param {(values: object) => void} set  traits */
  constructor(set) { this.#set = set; }

  /** @param {HTMLTextAreaElement} area @param {string} trait @param {() => unknown} read  the trait's value */
  watch(area, trait, read) {
    area.addEventListener("input", () => {
      this.#waiting.set(trait, read);
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.send(), PAUSE);
    });
    area.addEventListener("change", () => this.send());
  }

  /** Whether something was typed that Python does not know yet. @param {string} trait */
  has(trait) { return this.#waiting.has(trait); }

  send() {
    clearTimeout(this.#timer);
    const values = Object.fromEntries([...this.#waiting].map(([trait, read]) => [trait, read()]));
    this.#waiting.clear();
    if (Object.keys(values).length) this.#set(values);
  }
}
