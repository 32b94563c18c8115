import { need } from "./checks.js";
import { COLORS, blend } from "./colors.js";
import { addMenu, addSlider, addToggle } from "./controls.js";
import { live } from "./figure.js";
import { moments } from "./metrics.js";
import { MLP } from "./mlp.js";
import { addPlayButton, animate } from "./motion.js";
import { Random } from "./rng.js";
import { Solver } from "./solvers.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 4;
/** Milliseconds of a frame that may go into computing the flow ahead of what is shown. */
const BUDGET = 8;
/** Steps that are known ahead while it plays. */
const AHEAD = 2;
/** The most particles there can be. */
const MOST = 2000;
/** Numbers that take a step together: so many that the clock is not asked too often. */
const GROUP = 2 * 256;

/** The flow of all particles, computed a few particles at a time and kept step by step. */
class Flow {
  constructor(mlp, particles, { steps, seed }) {
    need(particles >= 1 && particles <= MOST, "there are no particles, or too many");
    this.steps = steps;
    this.field = mlp.field();
    this.solver = new Solver("midpoint", 2 * particles);
    this.path = [new Random(seed).normals(new Float32Array(2 * particles))];
    this.now = new Float32Array(2 * particles);
    this.next = this.path[0].slice(); // becomes the next step, from its beginning up to `done`
    this.done = 0;
  }

  /** The time up to which the flow is known. */
  get known() {
    return (this.path.length - 1) / this.steps;
  }

  /** Compute until a time is known or the budget of milliseconds is spent. */
  advance(time, budget) {
    const end = performance.now() + budget;
    while (this.known < time - 1e-9 && performance.now() < end) {
      const group = this.next.subarray(this.done, this.done + GROUP);
      this.solver.step(this.field, group, this.known, 1 / this.steps);
      need(Number.isFinite(group[0]), "the flow left the numbers");
      this.done += group.length;
      if (this.done < this.next.length) continue;
      this.path.push(this.next);
      this.next = this.next.slice();
      this.done = 0;
    }
  }

  /**
   * The particles at a known time: a kept step, or one shorter step from the last one before.
   *
   * In motion nobody sees the difference to the straight line between two steps, which costs
   * nothing: then that is taken.
   */
  at(time, moving) {
    const k = Math.min(this.path.length - 1, Math.floor(time * this.steps + 1e-9));
    const rest = time - k / this.steps;
    const [before, after] = [this.path[k], this.path[k + 1]];
    this.now.set(before);
    if (rest <= 1e-9) return this.now;
    if (!moving || !after) this.solver.step(this.field, this.now, k / this.steps, rest);
    else
      for (let i = 0; i < before.length; i++)
        this.now[i] += rest * this.steps * (after[i] - before[i]);
    return this.now;
  }
}

/** Points of a square grid. */
function grid(side, limit) {
  return Float32Array.from({ length: 2 * side * side }, (_, i) => {
    const k = i % 2 ? Math.floor(i / 2 / side) : (i >> 1) % side;
    return limit * ((2 * k) / (side - 1) - 1);
  });
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { steps, trails, limit, seed } = fig.get("_settings");
  const plane = fig.axes({ x: [-limit, limit], y: [-limit, limit], equal: true });
  const places = grid(15, limit);
  const velocities = new Float32Array(places.length);
  let mlp;
  let flow;

  function restart() {
    mlp = MLP.unpack(fig.get("_networks")[fig.get("dataset")]);
    flow = new Flow(mlp, fig.get("particles"), { steps, seed });
    fig.describe(`Particles that flow from noise to the data set ${fig.get("dataset")}`);
  }

  function drawTrails(now, time) {
    const count = Math.min(trails, now.length / 2);
    const until = Math.min(flow.path.length - 1, Math.floor(time * steps + 1e-9));
    const go = (draw, x, i) => fig.ctx[draw](plane.px(x[2 * i]), plane.py(x[2 * i + 1]));
    fig.ctx.beginPath();
    for (let i = 0; i < count; i++) {
      go("moveTo", flow.path[0], i);
      for (let k = 1; k <= until; k++) go("lineTo", flow.path[k], i);
      go("lineTo", now, i);
    }
    plane.stroke({ color: COLORS.trajectory, width: 1, alpha: 0.7 });
    plane.points(flow.path[0].subarray(0, 2 * count), { color: COLORS.noise, radius: 2 });
  }

  fig.onDraw(() => {
    const wanted = fig.get("time");
    need(wanted >= 0 && wanted <= 1, "the time lies outside of 0 and 1");
    // What is not known yet is computed over a few frames; the particles show how far it is.
    if (!fig.playing) flow.advance(wanted, fig.calm ? Infinity : BUDGET);
    const time = Math.min(wanted, flow.known);
    if (time < wanted) fig.redraw();
    const now = flow.at(time, fig.playing);
    if (fig.get("trails")) drawTrails(now, time);
    if (fig.get("arrows")) {
      mlp.forward(places, time, velocities);
      plane.arrows(places, velocities, { scale: 0.12 });
    }
    plane.points(now, { color: blend(time), radius: 1.7, alpha: 0.75 });
    const { mean, spread } = moments(now);
    fig.say(
      `t = ${number(time)}: mean (${number(mean[0])}, ${number(mean[1])}), ` +
        `spread ${number(spread)}`,
    );
  });

  const play = animate(
    fig,
    (seconds) => {
      // Never past what is known: a slow machine shows a slower flow, not fewer frames.
      const wanted = Math.min(1, fig.get("time") + seconds / DURATION);
      flow.advance(Math.min(1, wanted + AHEAD / steps), BUDGET);
      const time = Math.min(wanted, flow.known);
      fig.set("time", time);
      return time < 1;
    },
    () => fig.get("time") >= 1 && fig.set("time", 0),
  );

  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.02 });
  const menu = addMenu(fig, { label: "data", trait: "dataset", options: fig.get("datasets") });
  const count = { min: 100, max: MOST, step: 100, format: (v) => String(v) };
  addSlider(fig, { label: "particles", trait: "particles", ...count });
  addToggle(fig, { label: "trails", trait: "trails" });
  addToggle(fig, { label: "arrows of the field", trait: "arrows" });
  fig.on("datasets", (names) => {
    menu.offer(names);
    menu.show(fig.get("dataset"));
  });
  fig.on(["dataset", "particles"], restart);
  fig.on(["time", "trails", "arrows"]);
  restart();
}

export default live("Particles between noise and data", build);
