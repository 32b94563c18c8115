/**
 * Controls, each in one cell below the canvas: Python's `_controls` says how many there are. A
 * control is bound to a trait of the model, or to a value and a function.
 *
 * @typedef {import("./figure.js").LiveFigure} LiveFigure
 */
import { make } from "./dom.js";
import { number } from "./words.js";

/**
 * A slider.
 *
 * @param {LiveFigure} fig
 * @param {{label: string, min: number, max: number, step: number, trait?: string,
 *   value?: number, format?: (value: number) => string, onInput?: (value: number) => void}} s
 */
export function addSlider(fig, s) {
  const { label, min, max, step, trait, value, format = (v) => number(v), onInput } = s;
  const cell = addCell(fig, "label", label);
  const input = make("input", "fm-range", cell);
  Object.assign(input, { type: "range", min, max, step, ariaLabel: label });
  const shown = make("span", "fm-value", cell);
  shown.setAttribute("aria-hidden", "true");
  const show = (v) => {
    if (Number(input.value) !== v) input.value = v;
    shown.textContent = format(v);
    input.setAttribute("aria-valuetext", format(v));
  };
  return bind(fig, input, "input", () => Number(input.value), { trait, value, onInput, show });
}

/**
 * A menu.
 *
 * @param {LiveFigure} fig
 * @param {{label: string, options: (string | [string, string])[], trait?: string,
 *   value?: string, onInput?: (value: string) => void}} s Each option is a value, or a value and
 *   the words shown for it.
 */
export function addMenu(fig, { label, options, trait, value, onInput }) {
  const cell = addCell(fig, "label", label);
  const select = make("select", "fm-select", cell);
  select.ariaLabel = label; // alone: the words around a menu include its options
  const offer = (choices) =>
    select.replaceChildren(
      ...choices.map((choice) => {
        const [key, words] = Array.isArray(choice) ? choice : [choice, choice];
        return new Option(words, key);
      }),
    );
  offer(options);
  const show = (v) => (select.value = v);
  const read = () => select.value;
  return { ...bind(fig, select, "change", read, { trait, value, onInput, show }), offer };
}

/**
 * A line of text, taken over when it is left or Enter is pressed.
 *
 * @param {LiveFigure} fig
 * @param {{label: string, trait: string, hint: string, clean: (typed: string) => string}} s `clean`
 *   makes of what was typed a value of the trait; the hint says what may be.
 */
export function addText(fig, { label, trait, hint, clean }) {
  const cell = addCell(fig, "label", label);
  const input = make("input", "fm-text", cell);
  Object.assign(input, { type: "text", title: hint, spellcheck: false, ariaLabel: label });
  for (const help of ["capitalize", "complete", "correct"]) input.setAttribute(`auto${help}`, "off");
  const show = (v) => (input.value = v);
  // The trait may be what it was, and what was typed not.
  return bind(fig, input, "change", () => clean(input.value), { trait, onInput: show, show });
}

/** A box to tick. */
export function addToggle(fig, { label, trait, value, onInput }) {
  const cell = addCell(fig, "label");
  const box = make("input", "fm-check", cell);
  box.type = "checkbox";
  make("span", "fm-words", cell).textContent = label;
  const show = (v) => (box.checked = v);
  return bind(fig, box, "change", () => box.checked, { trait, value, onInput, show });
}

/**
 * A button, or several side by side in one cell.
 *
 * @param {LiveFigure} fig
 * @param {...{label: string, onClick: () => void}} buttons
 * @returns {HTMLButtonElement[]}
 */
export function addButtons(fig, ...buttons) {
  const cell = addCell(fig, "div");
  return buttons.map(({ label, onClick }) => {
    const button = make("button", "fm-button", cell);
    button.type = "button";
    button.textContent = label;
    fig.listen(button, "click", onClick);
    return button;
  });
}

function addCell(fig, tag, label) {
  const cell = make(tag, "fm-control", fig.controls);
  if (label) make("span", "fm-label", cell).textContent = label;
  return cell;
}

/** Tie an input to a trait, or to a value of its own. */
function bind(fig, input, type, read, { trait, value, onInput = () => {}, show }) {
  const control = { input, show };
  show(trait ? fig.get(trait) : value);
  if (trait) fig.on(trait, show);
  fig.listen(input, type, () => {
    if (trait) fig.set(trait, read());
    else show(read());
    onInput(read());
    fig.redraw();
  });
  return control;
}
