/** The page's side of a widget without a kernel, which also tells what it holds. */

const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/**
 * A model in the place of the kernel's.
 *
 * @param {Record<string, any>} values  traits by name
 * @param {{asked: object, content: object, buffers: string[]}[]} answers  what was answered to which question; buffers in base64
 */
export function standIn(values, answers) {
  const listeners = {};
  const named = (question) => JSON.stringify(Object.entries(question).sort());
  const known = new Map(answers.map((answer) => [named(answer.asked), answer]));
  const model = {
    holds: (question) => known.has(named(question)),
    get: (name) => values[name],
    set: (name, value) => {
      if (values[name] === value) return;
      values[name] = value;
      (listeners["change:" + name] || []).forEach((call) => call());
    },
    save_changes: () => {},
    on: (name, call) => (listeners[name] = listeners[name] || []).push(call),
    off: () => {},
    send: (question) => setTimeout(() => {
      const found = known.get(named(question)) || { content: { kind: "absent", asked: question }, buffers: [] };
      (listeners["msg:custom"] || []).forEach((call) =>
        call(found.content, found.buffers.map((buffer) => new DataView(decode(buffer).buffer))));
    }),
  };
  return { model, listeners };
}
