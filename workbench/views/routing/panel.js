/** A section of the view: a bar with its heading, what it shows, and a table of the same numbers. */
import { element } from "../shared/dom.js";

export function panel(name, heading) {
  const bar = element("div", "row", element("h4", "", heading)), body = element("section", `panel-${name}`, bar);
  return { bar, body };
}

/** A button that opens a table below a panel; what is returned builds the table anew where it is open. */
export function tableButton({ bar, body }, name, build) {
  const button = element("button", "plain small", "table"), holder = element("div", "numbers");
  holder.tabIndex = 0;
  holder.hidden = true;
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", `table of ${name}`);
  button.addEventListener("click", () => {
    holder.hidden = !holder.hidden;
    button.setAttribute("aria-pressed", String(!holder.hidden));
    if (holder.hidden) return holder.replaceChildren();
    build(holder);
    holder.scrollIntoView({ block: "nearest" });
  });
  bar.append(button);
  body.append(holder);
  return () => holder.hidden || build(holder);
}
