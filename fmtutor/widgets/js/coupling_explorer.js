import { need } from "./checks.js";
import { COLORS, blend } from "./colors.js";
import { addButtons, addMenu, addSlider, addToggle } from "./controls.js";
import { assign, squaredDistances } from "./couplings.js";
import { live } from "./figure.js";
import { addPlayButton, animateTime } from "./motion.js";
import { unpack } from "./packing.js";
import { Random } from "./rng.js";
import { softmax } from "./softmax.js";
import { follow } from "./solvers.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 4;

/** One pairing of a batch: row i of `x0` goes with row i of `x1`. */
class Pairing {
  constructor(x0, x1, order, { width, steps }) {
    Object.assign(this, { x0, n: order.length, width, steps });
    this.x1 = Float64Array.from(x0, (_, i) => x1[2 * order[i >> 1] + (i % 2)]);
    this.way = this.x1.map((end, i) => end - x0[i]);
    this.cost = this.way.reduce((sum, d) => sum + d * d, 0) / this.n;
    need(Number.isFinite(this.cost), "a point is not a number");
    this.crossings = this.cross();
    this.weights = new Float64Array(this.n);
  }

  /** Where the lines of two pairs cross, `[n 2]`. */
  cross() {
    const { x0, way } = this;
    const turn = (ax, ay, bx, by) => ax * by - ay * bx;
    const found = [];
    for (let i = 0; i < x0.length; i += 2) {
      for (let j = i + 2; j < x0.length; j += 2) {
        const between = [x0[j] - x0[i], x0[j + 1] - x0[i + 1]];
        const [mine, other] = [way.subarray(i, i + 2), way.subarray(j, j + 2)];
        const area = turn(...mine, ...other);
        const along = turn(...between, ...other) / area;
        const across = turn(...between, ...mine) / area;
        if (along > 0 && along < 1 && across > 0 && across < 1)
          found.push(x0[i] + along * mine[0], x0[i + 1] + along * mine[1]);
      }
    }
    return found;
  }

  /** The marginal field of the tubes around the lines. */
  field = (x, t, out) => {
    const { x0, way, weights, width } = this;
    for (let at = 0; at < out.length; at += 2) {
      for (let i = 0; i < weights.length; i++) {
        const dx = x[at] - x0[2 * i] - t * way[2 * i];
        const dy = x[at + 1] - x0[2 * i + 1] - t * way[2 * i + 1];
        weights[i] = -0.5 * ((dx * dx + dy * dy) / width ** 2);
      }
      softmax(weights);
      out[at] = out[at + 1] = 0;
      weights.forEach((w, i) => {
        out[at] += w * way[2 * i];
        out[at + 1] += w * way[2 * i + 1];
      });
    }
  };

  /** The trajectories of the field from the noise, computed when first asked for. */
  get flow() {
    this.path ??= follow(this.field, this.x0, { method: "midpoint", steps: this.steps });
    return this.path;
  }

  /** How far the velocities of the flow are from that of the chord, in the mean square. */
  get bending() {
    const { flow, steps, n } = this;
    let sum = 0;
    for (let k = 0; k < steps; k++)
      for (let i = 0; i < 2 * n; i++)
        sum += (steps * (flow[k + 1][i] - flow[k][i]) - flow[steps][i] + flow[0][i]) ** 2;
    return sum / steps / n;
  }

  /** The points at a time, on the lines or in the flow. */
  at(time, view) {
    if (view === "pairs") return this.x0.map((x, i) => x + time * this.way[i]);
    const k = Math.min(this.steps - 1, Math.floor(time * this.steps));
    const rest = time * this.steps - k;
    return this.flow[k].map((x, i) => x + rest * (this.flow[k + 1][i] - x));
  }
}

/** Noise and data: a larger batch of the same seed keeps the points of the smaller one. */
function draw(seed, n, means, std) {
  const random = new Random(seed);
  const [x0, x1] = [new Float64Array(2 * n), new Float64Array(2 * n)];
  const two = () => random.normals(new Float32Array(2));
  for (let i = 0; i < 2 * n; i += 2) {
    x0.set(two(), i);
    const k = random.integer(means.length / 2);
    x1.set(Float64Array.from(two(), (z, j) => means[2 * k + j] + std * z), i);
  }
  return { x0, x1 };
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { limit, largest, std, views } = settings;
  const means = unpack(fig.get("_means"), "the clusters");
  const side = { x: [-limit, limit], y: [-limit, limit], equal: true, margin: [4, 38, 4, 4] };
  const panels = {
    random: fig.axes({ ...side, box: [0, 0, 0.5, 1] }),
    optimal: fig.axes({ ...side, box: [0.5, 0, 1, 1] }),
  };
  const pairings = {};

  function restart() {
    const n = fig.get("batch_size");
    need(n >= 1 && n <= largest, "a batch of this size cannot be paired");
    const { x0, x1 } = draw(fig.get("seed"), n, means, std);
    const best = assign(squaredDistances(x0, x1), n);
    pairings.random = new Pairing(x0, x1, best.map((_, i) => i), settings);
    pairings.optimal = new Pairing(x0, x1, best, settings);
  }

  function title(axes, name, words) {
    axes.title(name, { dy: -27, bold: true });
    axes.title(words, { dy: -9, size: 12, color: fig.theme.soft });
  }

  function drawPanel(axes, name, { view, time }) {
    const pairing = pairings[name];
    const { x0, x1, n, cost, crossings } = pairing;
    const marked = fig.get("marks");
    const trace = (paths, style) => {
      fig.ctx.beginPath();
      for (let i = 0; i < 2 * n; i += 2)
        paths.forEach((x, k) =>
          fig.ctx[k ? "lineTo" : "moveTo"](axes.px(x[i]), axes.py(x[i + 1])),
        );
      axes.stroke(style);
    };
    if (view === "flow") {
      title(axes, `${name} pairs`, `flow, S = ${number(pairing.bending)}`);
      if (marked) trace([x0, x1], { width: 0.8, alpha: 0.5, dash: [2, 3] });
      trace(pairing.flow, { width: 1.8 });
    } else {
      title(axes, `${name} pairs`, `cost ${number(cost)}, ${crossings.length / 2} crossings`);
      trace([x0, x1], { width: 1.1, alpha: 0.9 });
    }
    const alpha = view === "flow" ? 0.4 : 0.8; // where the flow is shown, behind it
    if (marked) axes.points(crossings, { color: fig.theme.exact, radius: 1.8, alpha });
    axes.points(x0, { color: COLORS.noise, radius: 2.2, alpha: 1 });
    axes.points(x1, { color: COLORS.data, radius: 2.2, alpha: 1 });
    axes.points(pairing.at(time, view), { color: blend(time), radius: 3.4, alpha: 1 });
  }

  fig.onDraw(() => {
    const [view, time] = [fig.get("view"), fig.get("time")];
    need(view in views, `a view called ${view} is not known`);
    need(time >= 0 && time <= 1, "the time lies outside of 0 and 1");
    for (const name of Object.keys(panels)) drawPanel(panels[name], name, { view, time });
    const { random, optimal } = pairings;
    const both = (of) => `${of(random)} random, ${of(optimal)} optimal`;
    fig.say(
      `b = ${random.n}: mean cost ${both((p) => number(p.cost))}; ` +
        (view === "flow"
          ? `bending S ${both((p) => number(p.bending))}`
          : `crossings ${both((p) => p.crossings.length / 2)}`),
    );
    fig.describe(
      `${views[view]} at time ${number(time)}: left paired at random, right at the least cost`,
    );
  });

  const play = animateTime(fig, DURATION);

  addButtons(fig, { label: "New batch", onClick: () => fig.set("seed", fig.get("seed") + 1) });
  const whole = { min: 2, max: largest, step: 1, format: (v) => String(v) };
  addSlider(fig, { label: "batch size b", trait: "batch_size", ...whole });
  addMenu(fig, { label: "show", trait: "view", options: Object.entries(views) });
  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.02 });
  addToggle(fig, { label: "mark crossings", trait: "marks" });
  fig.on(["seed", "batch_size"], restart);
  fig.on(["view", "time", "marks"]);
  restart();
}

export default live("One batch of noise and data, paired at random and at the least cost", build);
