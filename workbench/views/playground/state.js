/**
 * What all parts of the playground look at: traits, which Python and the page share, what Python told beside them, and
 * the answer on the page. Parts do not know each other; what one does that concerns others goes through here or view.js.
 *
 * @typedef {import("./view.js").Model} Model
 * @typedef {{ get<Name extends keyof Model>(name: Name): Model[Name] }} Traits
 * @typedef {import("../shared/tokens.js").Step} Step
 *
 * @typedef BranchNode  a branch of the tree; parents stand before their children
 * @prop {number} id
 * @prop {string} name
 * @prop {number|null} at  token where it leaves its parent; null for a root
 * @prop {number} depth
 * @prop {string} preview  how its text begins
 *
 * @typedef Status  how an answer comes or came
 * @prop {number} [tokens]  new ones
 * @prop {number|null} [speed]  tokens a second
 * @prop {number} [seconds]  with reading the prompt
 * @prop {number} [used]  tokens of the context
 * @prop {number|null} [memory_gb]
 * @prop {string} [doing]  what takes long now
 * @prop {string} [reason]  why it ended
 * @prop {string} [finish]  the same as a word
 * @prop {string} [tail]  text at the end that belongs to no token: a stop string might have begun there
 *
 * @typedef Told  what Python told, beside traits and tokens
 * @prop {string} title
 * @prop {string} about  the model in a few words
 * @prop {Record<string, string>} missing  control → why it cannot be had
 * @prop {Record<string, number>|null} usual  settings
 * @prop {string[]} presets  names
 * @prop {number|null} count  of tokens that the model will read; null if that is not known
 * @prop {string[]} special  tokens' names that stand in the conversation
 * @prop {number} context  of the model, in tokens; 0 if it is not known
 * @prop {[number, string|null, number][]} bias  token id, its piece if that is known, value added to its logit
 * @prop {BranchNode[]} nodes
 * @prop {number|null} current  id of the branch on the page
 * @prop {boolean} undo  whether something can be undone
 * @prop {boolean} redo
 * @prop {Status} status
 * @prop {string} error
 * @prop {string} made  with what else than what is set here the text was made
 */
import { Typing } from "./typing.js";

const SILENCE = 5000; // milliseconds without a word from the kernel until the page says so
const SILENT = "The kernel does not answer. It may be busy running a cell. If it was restarted, run this view's cell again.";
/** @type {Told} */
const NOTHING_TOLD = {
  title: "Playground", about: "", missing: {}, usual: null, presets: [], count: null, special: [], context: 0, bias: [], nodes: [],
  current: null, undo: false, redo: false, status: {}, error: "", made: "",
};

export class State {
  /** How often the kernel has told something. */
  #heard = 0;
  #page;

  /**
   * @param {Traits} model
   * @param {ReturnType<typeof import("../shared/talk.js").talk>} page
   * @param {HTMLElement} root  which also tells, in its data, how far the page is
   * @param {import("./notes.js").Notes} notes
   */
  constructor(model, page, root, notes) {
    this.model = model;
    this.root = root;
    this.say = notes.say;
    this.speak = notes.speak;
    this.told = { ...NOTHING_TOLD };
    /** @type {Step[]} The tokens of the answer; only answer.js writes here. */
    this.steps = [];
    this.typing = new Typing((values) => this.set(values));
    this.#page = page;
  }

  /** @template {keyof Model} Name @param {Name} trait @returns {Model[Name]} */
  get(trait) { return this.model.get(trait); }

  /** @param {Partial<Model>} traits */
  set(traits) { this.#page.set(traits); }

  /** Call something when one of these traits has changed. @param {string[]} traits @param {() => void} call */
  on(traits, call) { this.#page.on(traits.map((trait) => `change:${trait}`), call); }

  /** The kernel has told something, so it is there. */
  hear() { this.#heard += 1; }

  /**
   * Ask Python for something. If the kernel is silent then, although it should generate, the page says so.
   * @param {string} kind
   * @param {object} [more]
   */
  send(kind, more) {
    const before = this.#heard;
    if (!this.#page.send({ kind, ...more })) return;
    if (kind !== "generate" && kind !== "branch") return;
    setTimeout(() => { if (this.#heard === before && !this.get("running")) this.say(SILENT, true); }, SILENCE);
  }
}
