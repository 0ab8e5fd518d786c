/**
 * What a page and Python tell each other. A page tells Python {kind: "hello" | "bye", page} when it comes
 * and goes. Where something is generated, Python counts its pages anew with {kind: "roll"}, which a page
 * answers with {kind: "here", page}.
 */

/**
 * Messages and traits of one page. After a restart of the kernel nothing can be sent any more:
 * then `gone` is called, and `send` and `set` return false.
 */
export function talk(model, gone) {
  const page = String(Math.random()); // names this page to Python
  const undo = []; // what is to be done at the end
  const tried = (call) => {
    try {
      call();
      return true;
    } catch {
      gone();
      return false;
    }
  };
  const send = (message) => tried(() => model.send(message));
  return {
    send,
    set: (values) => {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      return tried(() => model.save_changes());
    },
    on: (names, call) => {
      for (const name of [names].flat()) {
        model.on(name, call);
        undo.push(() => model.off(name, call));
      }
    },
    /** Call something whenever the colours around the view change. */
    onTheme: (call) => {
      const themes = new MutationObserver(call), scheme = matchMedia("(prefers-color-scheme: dark)");
      themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
      scheme.addEventListener("change", call);
      undo.push(() => { themes.disconnect(); scheme.removeEventListener("change", call); });
    },
    /** Do something when the page is left. */
    atEnd: (call) => undo.push(call),
    /** Say that the page is there, and ask for what it shows; what is returned ends it. */
    begin: () => {
      const hear = ({ kind }) => { if (kind === "roll") send({ kind: "here", page }); };
      model.on("msg:custom", hear);
      undo.push(() => model.off("msg:custom", hear), () => send({ kind: "bye", page }));
      send({ kind: "hello", page });
      send({ kind: "want" });
      return () => undo.forEach((call) => call());
    },
  };
}
