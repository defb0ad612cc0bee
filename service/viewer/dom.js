/** Building elements. Text only ever enters the page as text nodes, never as markup. */

/**
 * Make an element.
 * @param {string} tag
 * @param {Object} [given] attributes; `on` holds listeners, `style` holds properties (set one by one, which the CSP allows)
 * @param {...(Node|string|number|null|undefined|false)} children empty ones are left out
 */
export function h(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "style") for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map(asNode));
  return element;
}

function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

/**
 * A group of radio buttons that looks like one segmented control; arrow keys move between them.
 * `options` are [value, text, colour of a dot before the text or nothing].
 */
export function segments(title, name, options, chosen, change) {
  return h(
    "fieldset",
    { class: "segments" },
    h("legend", {}, title),
    options.map(([value, text, color]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name, value, checked: value === chosen, on: { change: () => change(value) } }),
        h("span", {}, color && h("i", { class: "dot", "aria-hidden": "true", style: { background: color, "border-color": color } }), text),
      ),
    ),
  );
}

let last = 0;

/** A labelled slider; `say(value)` turns its value into words for the eye and for screen readers. */
export function slider(title, { min, max, step = 1, value }, say, change) {
  const id = `slider-${++last}`;
  const output = h("output", { for: id }, say(value));
  const input = h("input", { id, type: "range", min, max, step, value, "aria-valuetext": say(value) });
  input.addEventListener("input", () => {
    show(input.valueAsNumber);
    change(input.valueAsNumber);
  });
  function show(now) {
    input.value = now;
    output.textContent = say(now);
    input.setAttribute("aria-valuetext", say(now));
  }
  return { element: h("div", { class: "slider" }, h("label", { for: id }, title), input, output), input, show };
}

/** Pictures by address, kept so that going back and forth does not load them again. */
export class Pictures {
  #kept = new Map();

  constructor(limit = 120) {
    this.limit = limit;
  }

  /** The loaded picture as a fresh <img>; throws when it cannot be loaded. */
  async get(address) {
    let image = this.#kept.get(address);
    this.#kept.delete(address);
    if (!image) {
      image = new Image();
      image.src = address;
    }
    this.#kept.set(address, image);
    if (this.#kept.size > this.limit) this.#kept.delete(this.#kept.keys().next().value);
    try {
      await image.decode();
    } catch (error) {
      this.#kept.delete(address);
      throw error;
    }
    return image;
  }
}
