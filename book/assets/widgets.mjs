/**
 * Live figures on a page without a kernel.
 *
 * myst-nb leaves the state of every widget in the page. This script gives each figure that state as
 * an anywidget model, imports the module that it carries, and renders it where its picture stands,
 * when a reader comes near. Nothing is fetched. Where anything is damaged the picture stays.
 */

const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
const NEAR = "800px"; // a figure is ready before it is scrolled into view
const SORRY = "This figure could not come to life here. The picture shows its first state.";

/** The state of one widget, as anywidget's `render` expects it; nobody else is listening. */
class Model {
  constructor({ state, buffers = [] }) {
    this.state = state;
    this.listeners = {};
    for (const { path, data } of buffers) {
      const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
      const last = path.at(-1);
      const holder = path.slice(0, -1).reduce((value, key) => value[key], state);
      holder[last] = new DataView(bytes.buffer);
    }
  }

  get(name) {
    return this.state[name];
  }

  set(name, value) {
    if (typeof name === "object") return Object.entries(name).forEach((pair) => this.set(...pair));
    if (Object.is(this.state[name], value)) return;
    this.state[name] = value;
    for (const event of [`change:${name}`, "change"])
      for (const listener of [...(this.listeners[event] ?? [])]) listener(this, value);
  }

  on(event, listener) {
    (this.listeners[event] ??= []).push(listener);
  }

  off(event, listener) {
    if (!event) this.listeners = {};
    else if (!listener) delete this.listeners[event];
    else this.listeners[event] = (this.listeners[event] ?? []).filter((other) => other !== listener);
  }

  save_changes() {}

  send() {}
}

/** Remember what a function gave for each argument. */
function once(make) {
  const made = new Map();
  return (key) => made.get(key) ?? made.set(key, make(key)).get(key);
}

let states;
const read = () => (states ??= JSON.parse(document.querySelector(STATE).textContent).state);

const style = once((css) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets.push(sheet);
  return sheet;
});

// One module for all figures of a kind, one model for all views of a figure.
const load = once(async (source) => {
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  return typeof module.default === "function" ? module.default() : module.default;
});

const open = once(async (id) => {
  const model = new Model(read()[id]);
  if (model.get("_css")) style(model.get("_css"));
  const widget = await load(model.get("_esm"));
  await widget.initialize?.({ model });
  return { model, widget };
});

/** Show the picture again, with a sentence below. */
function fallBack(place, el, fault) {
  console.info("A live figure was left as a picture:", fault);
  el.remove();
  for (const part of place.children) part.hidden = part.classList.contains("fm-reserved");
  if (place.querySelector(":scope > p.fm-sentence")) return;
  const sentence = Object.assign(document.createElement("p"), { className: "fm-sentence" });
  sentence.textContent = SORRY;
  place.append(sentence);
}

async function bringToLife(place) {
  const el = document.createElement("div");
  el.addEventListener("fm-fault", (event) => {
    event.preventDefault();
    fallBack(place, el, event.detail);
  });
  try {
    const { model_id: id } = JSON.parse(place.querySelector(VIEW).textContent);
    const { model, widget } = await open(id);
    for (const part of place.children) part.hidden = true;
    place.append(el);
    await widget.render({ model, el });
  } catch (fault) {
    fallBack(place, el, fault);
  }
}

const arrivals = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      arrivals.unobserve(target);
      bringToLife(target);
    }
  },
  { rootMargin: NEAR },
);
for (const place of document.querySelectorAll(".fm-live")) arrivals.observe(place);
