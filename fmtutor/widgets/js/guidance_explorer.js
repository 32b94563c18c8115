import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addMenu, addSlider, addToggle } from "./controls.js";
import { live } from "./figure.js";
import { guided } from "./guidance.js";
import { moments } from "./metrics.js";
import { GaussianMixture } from "./mixture.js";
import { addPlayButton, animateTime } from "./motion.js";
import { unpackPath } from "./paths.js";
import { Random } from "./rng.js";
import { softmax } from "./softmax.js";
import { Solver, follow } from "./solvers.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 4;

/** The same noise under the guided field of one scale. */
class Crowd {
  constructor(noise, steps) {
    Object.assign(this, { noise, steps });
    this.solver = new Solver("midpoint", noise.length, Float64Array);
    this.now = new Float64Array(noise.length);
  }

  /** Follow another field from the beginning. */
  set(field) {
    this.field = field;
    this.path = follow(field, this.noise, { method: "midpoint", steps: this.steps });
  }

  /** The particles at a time: a kept step, and one shorter step from there. */
  at(time) {
    const k = Math.min(this.steps, Math.floor(time * this.steps + 1e-9));
    this.now.set(this.path[k]);
    const rest = time - k / this.steps;
    if (rest > 1e-9) this.solver.step(this.field, this.now, k / this.steps, rest);
    need(Number.isFinite(this.now[0]), "the particles left the numbers");
    return this.now;
  }
}

/** Points of a square grid. */
function lattice(side, limit) {
  return Float64Array.from({ length: 2 * side * side }, (_, i) => {
    const k = i % 2 ? Math.floor(i / 2 / side) : (i >> 1) % side;
    return limit * ((2 * k) / (side - 1) - 1);
  });
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { path, labels, steps, limit, seed } = fig.get("_settings");
  const whole = GaussianMixture.unpack(fig.get("_mixture"), unpackPath(path));
  const square = { x: [-limit, limit], y: [-limit, limit], equal: true, margin: [6, 26, 6, 4] };
  const panels = [
    fig.axes({ ...square, box: [0, 0, 0.5, 1], narrowBox: [0, 0, 1, 0.5] }),
    fig.axes({ ...square, box: [0.5, 0, 1, 1], narrowBox: [0, 0.5, 1, 1] }),
  ];
  const places = lattice(13, 0.9 * limit);
  const velocities = new Float64Array(places.length);
  let crowds;

  /** Follow the fields of a label at scale 1 and at the scale shown. */
  function restart() {
    const n = fig.get("particles");
    need(n >= 1 && n <= 1000, "there are no particles, or too many");
    need(Number.isFinite(fig.get("scale")), "the scale is not finite");
    const noise = Float64Array.from(new Random(seed).normals(new Float32Array(2 * n)));
    const wanted = labels.flatMap((label, k) => (String(label) === fig.get("label") ? [k] : []));
    need(wanted.length, "there is no such label");
    const part = whole.only(wanted);
    const size = Math.max(noise.length, places.length);
    const scales = [() => 1, () => fig.get("scale")];
    crowds = scales.map((scale) => {
      const crowd = new Crowd(noise, steps);
      crowd.set(guided(part.velocity, whole.velocity, scale, size));
      return crowd;
    });
    fig.describe(`Particles under the field of label ${fig.get("label")}, and guided towards it`);
  }

  /** The share of the particles whose most probable label is the wanted one. */
  function share(x, time) {
    const odds = [0, 0, 0];
    let count = 0;
    for (let at = 0; at < x.length; at += 2) {
      const r = whole.logJoint(x, time, at);
      softmax(r);
      odds.fill(0);
      for (let k = 0; k < r.length; k++) odds[labels[k]] += r[k];
      count += odds[fig.get("label")] === Math.max(...odds);
    }
    return (2 * count) / x.length;
  }

  function drawPanel(axes, crowd, x, time, scale) {
    const { means, stds } = whole;
    axes.title(`scale ${number(scale, 1)}`, { dy: -12, size: 14 });
    for (let k = 0; k < stds.length; k++) {
      const color = String(labels[k]) === fig.get("label") ? COLORS.data : COLORS.exact;
      for (const reach of [1, 2]) {
        const style = { color, fill: 0.2, width: 0.5, alpha: 0.2 };
        axes.ring(means[2 * k], means[2 * k + 1], reach * stds[k], style);
      }
    }
    axes.clip(() => {
      const arrows = fig.get("arrows");
      if (arrows) {
        crowd.field(places, time, velocities);
        for (let i = 0; i < velocities.length; i += 2) {
          // As long as the grid allows, however fast.
          const shorter = 0.5 / (4 + Math.hypot(velocities[i], velocities[i + 1]));
          velocities[i] *= shorter;
          velocities[i + 1] *= shorter;
        }
        axes.arrows(places, velocities);
      }
      const color = arrows ? COLORS.learned : COLORS.velocity;
      axes.points(x, { color, radius: 2, alpha: 0.8 });
    });
  }

  fig.onDraw(() => {
    const time = fig.get("time");
    need(time >= 0 && time <= 1, "the time lies outside of 0 and 1");
    const scales = [1, fig.get("scale")];
    const words = crowds.map((crowd, i) => {
      const x = crowd.at(time);
      drawPanel(panels[i], crowd, x, time, scales[i]);
      const { spread } = moments(x);
      const percent = number(100 * share(x, time), 1);
      return `scale ${number(scales[i], 1)}: ${percent}\u00a0%, spread\u00a0${number(spread)}`;
    });
    fig.say(`t = ${number(time)}. Taken for label ${fig.get("label")} at ${words.join("; ")}`);
  });

  const play = animateTime(fig, DURATION);
  addSlider(fig, {
    label: "scale s",
    trait: "scale",
    min: 0,
    max: 8,
    step: 0.5,
    format: (v) => number(v, 1),
  });
  const options = [["0", "0: two clusters"], ["1", "1: upper right"], ["2", "2: lower left"]];
  addMenu(fig, { label: "label", trait: "label", options });
  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.02 });
  addToggle(fig, { label: "arrows of the field", trait: "arrows" });
  fig.on(["scale", "label", "particles"], restart);
  fig.on(["time", "arrows"]);
  restart();
}

export default live("Particles under the field of a label, and guided towards it", build);
