import { need } from "./checks.js";
import { COLORS, blend } from "./colors.js";
import { addButtons, addMenu, addSlider } from "./controls.js";
import { live } from "./figure.js";
import { guided } from "./guidance.js";
import { moments } from "./metrics.js";
import { MLP } from "./mlp.js";
import { addPlayButton, animate } from "./motion.js";
import { Random } from "./rng.js";
import { Solver } from "./solvers.js";
import { Tiles } from "./tiles.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 5;
/** Milliseconds of a frame that may go into computing: at rest, and while something moves. */
const BUDGET = { still: 80, moving: 12 };
/** Pixels between two pictures, and those for the words before the way of one of them. */
const [GAP, WORDS] = [4, 96];

/** The way of all pictures along a field, computed a step at a time and kept. */
class Way {
  constructor(field, noise, { method, steps, dim }) {
    need(Number.isInteger(steps) && steps >= 1, "there are no steps");
    Object.assign(this, { field, method, steps, dim });
    this.solver = new Solver(method, noise.length);
    this.single = new Solver(method, dim);
    this.path = [noise];
    this.now = new Float32Array(noise.length);
    this.velocity = new Float32Array(dim);
    this.moments = new Map();
  }

  /** The time up to which the way is known. */
  get known() {
    return (this.path.length - 1) / this.steps;
  }

  /** Compute until a time is known or the budget of milliseconds is spent. */
  advance(time, budget) {
    const end = performance.now() + budget;
    while (this.known < time - 1e-9 && performance.now() < end) {
      const x = this.path[this.path.length - 1].slice();
      this.solver.step(this.field, x, this.known, 1 / this.steps);
      need(Number.isFinite(x[0]), "the pictures left the numbers");
      this.path.push(x);
    }
  }

  /** Take some pictures from the last step before a known time to that time, by a shorter step. */
  finish(x, solver, time) {
    const k = this.before(time);
    const rest = time - k / this.steps;
    if (rest > 1e-9) solver.step(this.field, x, k / this.steps, rest);
    return x;
  }

  before(time) {
    return Math.min(this.path.length - 1, Math.floor(time * this.steps + 1e-9));
  }

  /** All pictures at a known time; overwritten by the next call. */
  at(time) {
    this.now.set(this.path[this.before(time)]);
    return this.finish(this.now, this.solver, time);
  }

  /** One picture at a known time, and the end x + (1 − t) v that is expected there; kept. */
  moment(i, time) {
    const key = `${i} ${time}`;
    if (!this.moments.has(key)) {
      const { dim, velocity } = this;
      const x = this.path[this.before(time)].slice(i * dim, (i + 1) * dim);
      this.finish(x, this.single, time);
      this.field(x, time, velocity);
      this.moments.set(key, { x, end: x.map((value, j) => value + (1 - time) * velocity[j]) });
    }
    return this.moments.get(key);
  }
}

/** Where everything stands: each pixel of a picture covers a whole number of the screen's. */
function plan(width, { side, pictures }) {
  const narrow = width < 480;
  const grain = side / (window.devicePixelRatio || 1);
  const crisp = (space) => Math.max(1, Math.floor(space / grain)) * grain;
  const [columns, times, words] = narrow ? [6, 6, 0] : [8, 11, WORDS];
  const size = crisp((width + GAP) / columns - GAP);
  const small = crisp((width - words + GAP) / times - GAP);
  const centre = (number, side) => Math.round((width - number * (side + GAP) + GAP) / 2);
  return {
    pictures: { columns, size, left: centre(columns, size) },
    way: {
      narrow, // then the words about a row stand above it
      times,
      size: small,
      left: narrow ? centre(times, small) : words,
      top: (pictures / columns) * (size + GAP) + (narrow ? 44 : 28),
      pitch: narrow ? small + 22 : small + GAP,
    },
  };
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { side, pictures, methods } = settings;
  const dim = side * side;
  const mlp = MLP.unpack(fig.get("_network"));
  need(mlp.dim === dim, `a picture has ${dim} pixels, but the network takes ${mlp.dim}`);
  const stage = fig.axes({ x: [0, 1], y: [0, 1], margin: [0, 0, 0, 0] });
  const tiles = new Tiles(fig, side);
  let way;

  /** The field of no class, of a class, or guided towards it. */
  function field() {
    const [digit, scale] = [fig.get("digit"), fig.get("scale")];
    need(digit === null || (digit >= 0 && digit < mlp.classes), `there is no digit ${digit}`);
    need(Number.isFinite(scale), "the scale is not finite");
    if (digit === null || scale === 0) return mlp.field();
    if (scale === 1) return mlp.field(digit);
    return guided(mlp.field(digit), mlp.field(), () => scale, pictures * dim);
  }

  /** How often each picture asks the network. */
  function evaluations() {
    const both = fig.get("digit") !== null && ![0, 1].includes(fig.get("scale"));
    return fig.get("steps") * way.solver.tableau.b.length * (both ? 2 : 1);
  }

  function restart() {
    const noise = new Random(fig.get("seed")).normals(new Float32Array(pictures * dim));
    way = new Way(field(), noise, { method: fig.get("method"), steps: fig.get("steps"), dim });
    const digit = fig.get("digit");
    const called = digit === null ? "some digit" : `the digit ${digit}`;
    fig.describe(`${pictures} pictures of ${called}, out of noise, and the way of one of them`);
  }

  function write(words, left, top, style) {
    stage.text(0, 1, words, { dx: left, dy: top, size: 12, color: fig.theme.soft, ...style });
  }

  function drawPictures({ columns, size, left }, x, time) {
    for (let i = 0; i < pictures; i++) {
      const place = [left + (i % columns) * (size + GAP), Math.floor(i / columns) * (size + GAP)];
      tiles.draw(x, i * dim, ...place, size, blend(time));
      if (i + 1 !== fig.get("chosen")) continue;
      fig.ctx.strokeStyle = fig.theme.ink;
      fig.ctx.lineWidth = 2;
      fig.ctx.strokeRect(place[0] + 1, place[1] + 1, size - 2, size - 2);
    }
  }

  /** The way of one picture and the ends expected on it, under an axis of time. */
  function drawWay({ narrow, times, size, left: first, top, pitch }, time) {
    const chosen = fig.get("chosen");
    const middle = (t) => first + t * (times - 1) * (size + GAP) + size / 2;
    fig.ctx.fillStyle = fig.theme.faint;
    fig.ctx.fillRect(middle(0), top - 8, middle(1) - middle(0), 1);
    fig.ctx.fillStyle = blend(time);
    fig.ctx.beginPath();
    fig.ctx.arc(middle(time), top - 7.5, 4, 0, 2 * Math.PI);
    fig.ctx.fill();
    const words = { align: "left" };
    const beside = (y) => (narrow ? [first, y - 11] : [0, y + size / 2]);
    if (narrow) write(`picture ${chosen}`, first, top - 36, words);
    else write(`picture ${chosen}`, ...beside(top), words);
    write("expected end", ...beside(top + pitch), words);
    if (!narrow) write("time t", 0, top - 19, words);
    for (let k = 0; k < times; k++) {
      const t = k / (times - 1);
      const left = middle(t) - size / 2;
      write(number(t, 1), middle(t), top - 19);
      if (t > way.known + 1e-9) {
        for (const y of [top, top + pitch]) tiles.paper(left, y, size);
        continue;
      }
      const { x, end } = way.moment(chosen - 1, t);
      tiles.draw(x, 0, left, top, size, blend(t));
      tiles.draw(end, 0, left, top + pitch, size, COLORS.learned);
    }
  }

  fig.onDraw(() => {
    const wanted = fig.get("time");
    const at = (fig.get("chosen") - 1) * dim;
    need(at >= 0 && at < pictures * dim, "there is no such picture");
    // What is not known yet is computed over a few frames; the pictures show how far it is.
    if (!fig.playing) way.advance(1, fig.calm ? Infinity : BUDGET.still);
    if (way.known < 1 - 1e-9) fig.redraw();
    const time = Math.min(wanted, way.known);
    const now = way.at(time);
    const places = plan(fig.width, settings);
    drawPictures(places.pictures, now, time);
    drawWay(places.way, time);
    const mean = now.subarray(at, at + dim).reduce((sum, value) => sum + value, 0) / dim;
    fig.say(
      `t = ${number(time)}, ${evaluations()} evaluations a picture. ` +
        `Spread ${number(moments(now, dim).spread, 4)}, ` +
        `mean pixel of picture ${fig.get("chosen")}: ${number(mean, 4)}`,
    );
  });

  /** The picture at a place of the stage, from 1 on; 0 where there is none. */
  function pictureAt(event) {
    const { columns, size, left } = plan(fig.width, settings).pictures;
    const [x, y] = fig.place(event).map((p, i) => (p - (i ? 0 : left)) / (size + GAP));
    const found = Math.floor(x) + columns * Math.floor(y) + 1;
    return x >= 0 && x < columns && y >= 0 && found <= pictures ? found : 0;
  }

  fig.listen(fig.canvas, "click", (event) => {
    const found = pictureAt(event);
    if (found) fig.set("chosen", found);
  });
  fig.listen(fig.canvas, "pointermove", (event) => {
    fig.canvas.style.cursor = pictureAt(event) ? "pointer" : "";
  });

  const play = animate(
    fig,
    (seconds) => {
      // Never past what is known: a slow machine shows a slower flow, not fewer frames.
      const wanted = Math.min(1, fig.get("time") + seconds / DURATION);
      way.advance(wanted, BUDGET.moving);
      fig.set("time", Math.min(wanted, way.known));
      return fig.get("time") < 1;
    },
    () => fig.get("time") >= 1 && fig.set("time", 0),
  );

  const name = (digit) => (digit === null ? "none" : String(digit));
  const menu = addMenu(fig, {
    label: "digit",
    options: [...[...Array(mlp.classes).keys()].map(String), ["none", "no label"]],
    value: name(fig.get("digit")),
    onInput: (v) => fig.set("digit", v === "none" ? null : Number(v)),
  });
  addSlider(fig, {
    label: "guidance",
    trait: "scale",
    min: 0,
    max: 5,
    step: 0.5,
    format: (v) => number(v, 1),
  });
  const count = { min: 1, step: 1, format: (v) => String(v) };
  addSlider(fig, { label: "steps", trait: "steps", max: 50, ...count });
  addMenu(fig, { label: "solver", trait: "method", options: methods });
  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.02 });
  addButtons(fig, { label: "New noise", onClick: () => fig.set("seed", fig.get("seed") + 1) });
  addSlider(fig, { label: "picture", trait: "chosen", max: pictures, ...count });
  fig.on("digit", (digit) => menu.show(name(digit)));
  fig.on(["digit", "scale", "steps", "method", "seed"], restart);
  fig.on(["time", "chosen"]);
  restart();
}

export default live("Pictures of digits that come out of noise", build);
