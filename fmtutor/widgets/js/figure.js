import { Axes } from "./axes.js";
import { make } from "./dom.js";
import { readTheme, watchTheme } from "./theme.js";

/**
 * The frame of a live figure: a canvas, a place for controls, a line of text that screen readers
 * announce, and the traits of the model behind it.
 *
 * A fault anywhere in a figure stops that figure alone: whatever holds it is told by the event
 * "fm-fault" (the host of the book shows the picture again), else a sentence appears.
 */
export class LiveFigure {
  /**
   * @param {{model: any, el: HTMLElement, label: string}} settings The anywidget model, the place,
   *   and what the figure shows, in a sentence, for those who do not see it.
   */
  constructor({ model, el, label }) {
    Object.assign(this, { model, el, undo: [], axesList: [], afterDraw: [], loops: [], frames: 0 });
    this.root = make("div", "fm-figure", el);
    this.root.style.setProperty("--fm-aspect", model.get("_aspect"));
    this.root.style.setProperty("--fm-narrow", model.get("_narrow"));
    this.stage = make("div", "fm-stage", this.root);
    this.canvas = make("canvas", "fm-canvas", this.stage);
    this.canvas.setAttribute("role", "img");
    this.ctx = this.canvas.getContext("2d");
    this.controls = make("div", "fm-controls", this.root);
    this.output = make("output", "fm-readout", this.root);
    this.output.setAttribute("aria-live", "polite");
    this.describe(label);
    this.visible = true;
    this.paint = () => {};
    /** Whether an answer is on its way, of a worker say: then the figure is not settled. */
    this.awaits = () => false;
    this.measure();
    this.watch();
    this.redraw();
  }

  // -- What a figure asks for --

  /** Draw by this function: it is called with the context, at most once a frame. */
  onDraw(paint) {
    this.paint = paint;
    this.redraw();
  }

  /** Draw again, with the next frame. */
  redraw() {
    this.root.removeAttribute("data-settled");
    // A running animation draws each frame anyway.
    if (this.frame || this.playing || !this.visible || this.gone) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.guard(() => this.drawNow());
    });
  }

  /** @returns {Axes} */
  axes(settings) {
    const axes = new Axes(this, settings);
    this.axesList.push(axes);
    return axes;
  }

  /** The value of a trait. */
  get(trait) {
    return this.model.get(trait);
  }

  /** Set a trait; Python hears of it, during an animation when that pauses. */
  set(trait, value) {
    this.model.set(trait, value);
    if (!this.playing) this.model.save_changes();
  }

  /** Call a function when one of the traits changes, from whichever side, and draw again. */
  on(traits, react = () => {}) {
    for (const trait of [traits].flat()) {
      const listener = () =>
        this.guard(() => {
          react(this.get(trait));
          this.redraw();
        });
      this.model.on(`change:${trait}`, listener);
      this.undo.push(() => this.model.off(`change:${trait}`, listener));
    }
  }

  /** Change what the canvas is said to show. */
  describe(label) {
    this.canvas.setAttribute("aria-label", label);
  }

  /** Write the line of text below the controls; it is announced unless something moves. */
  say(text) {
    const live = this.playing ? "off" : "polite";
    if (this.output.getAttribute("aria-live") !== live) this.output.setAttribute("aria-live", live);
    if (this.output.textContent === text) return;
    const parts = text.split(/([ₜ₀₁₂₃]+)/).map((part, i) => {
      if (i % 2 === 0) return part;
      const subscript = make("span", "fm-subscript");
      subscript.textContent = part;
      return subscript;
    });
    this.output.replaceChildren(...parts);
  }

  /** Whether an animation is running. */
  get playing() {
    return this.loops.some((loop) => loop.playing);
  }

  /** Whether the reader asked for less motion. */
  get calm() {
    return matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  // -- Its life --

  /** Remove the figure and everything that watches; a figure's `render` returns this call. */
  dispose() {
    this.gone = true;
    for (const loop of this.loops) loop.pause();
    cancelAnimationFrame(this.frame);
    for (const undo of this.undo) undo();
    this.root.remove();
  }

  /** Run a part of the figure; a fault there ends the figure, not the page. */
  guard(run) {
    if (this.gone) return;
    try {
      run();
    } catch (fault) {
      this.fail(fault);
    }
  }

  /** End the figure with a reason. */
  fail(fault) {
    console.warn("A live figure stopped:", fault);
    const { el } = this;
    const event = new CustomEvent("fm-fault", { bubbles: true, cancelable: true, detail: fault });
    const nobodyHeard = el.dispatchEvent(event);
    this.dispose();
    if (nobodyHeard)
      make("p", "fm-sentence", el).textContent = `This figure stopped: ${fault.message}`;
  }

  /** Call a function on an event, guarded, until the figure is disposed of. */
  listen(target, type, react) {
    const listener = (event) => this.guard(() => react(event));
    target.addEventListener(type, listener);
    this.undo.push(() => target.removeEventListener(type, listener));
  }

  /** Where an event is on the stage, in CSS pixels. */
  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  // -- Inside --

  measure() {
    this.width = Math.max(1, this.stage.clientWidth);
    this.height = Math.max(1, this.stage.clientHeight);
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.width, this.height].map((side) => Math.round(side * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height)
      Object.assign(this.canvas, { width, height });
    this.ctx.setTransform(width / this.width, 0, 0, height / this.height, 0, 0);
  }

  drawNow() {
    this.measure();
    this.theme ??= readTheme(this.root);
    for (const axes of this.axesList) axes.layout();
    this.ctx.clearRect(0, 0, this.width, this.height);
    this.paint(this.ctx, this);
    for (const place of this.afterDraw) place();
    this.mark();
  }

  /** Say on the page how many frames were drawn, and whether that is all: tests wait for it. */
  mark() {
    this.frames += 1;
    this.root.dataset.frames = this.frames;
    const settled = !this.frame && !this.playing && !this.awaits();
    this.root.toggleAttribute("data-settled", settled);
  }

  /** Follow size, theme and visibility. */
  watch() {
    const size = new ResizeObserver(() => this.redraw());
    size.observe(this.stage);
    let inView = true;
    const look = () => {
      this.visible = inView && !document.hidden;
      this.redraw();
      for (const loop of this.loops) loop.wake();
    };
    const sight = new IntersectionObserver((entries) => {
      inView = entries.at(-1).isIntersecting;
      look();
    });
    sight.observe(this.stage);
    this.listen(document, "visibilitychange", look);
    const restyle = () => {
      this.theme = null;
      this.redraw();
    };
    this.undo.push(watchTheme(restyle), () => [size, sight].forEach((o) => o.disconnect()));
  }
}

/**
 * The anywidget of a figure: `export default live("What it shows.", (fig) => { ... });`
 *
 * @param {string} label
 * @param {(fig: LiveFigure) => void} build Puts controls and drawing into a new figure.
 */
export function live(label, build) {
  return {
    render({ model, el }) {
      const fig = new LiveFigure({ model, el, label });
      fig.guard(() => build(fig));
      return () => fig.dispose();
    },
  };
}
