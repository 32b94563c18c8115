import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addButtons, addSlider } from "./controls.js";
import { EmpiricalField } from "./empirical.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { unpackPath } from "./paths.js";
import { Random } from "./rng.js";
import { number } from "./words.js";

/** Nodes of the quadrature over x_t, and how far it reaches. */
const NODES = 1600;
const REACH = 6;

/** A loss E|θ·f − y|² of the features f = (1, u), kept as sums over weighted samples. */
class Quadratic {
  constructor() {
    Object.assign(this, { one: 0, u: 0, uu: 0, y: 0, uy: 0, yy: 0 });
  }

  /** Add a sample: the feature u, the target y, its weight. */
  add(u, y, weight) {
    this.one += weight;
    this.u += weight * u;
    this.uu += weight * u * u;
    this.y += weight * y;
    this.uy += weight * u * y;
    this.yy += weight * y * y;
  }

  /** The mean of (θ1 + θ2 u − y)². */
  loss([p, q]) {
    const { one, u, uu, y, uy, yy } = this;
    return (p * p * one + 2 * p * q * u + q * q * uu - 2 * (p * y + q * uy) + yy) / one;
  }

  /** Its gradient. */
  gradient([p, q]) {
    const { one, u, uu, y, uy } = this;
    return [(2 * (p * one + q * u - y)) / one, (2 * (p * u + q * uu - uy)) / one];
  }
}

/** Both exact losses and the sampled ones, at one time. */
class Losses {
  constructor(path, data) {
    this.path = path;
    this.data = Float64Array.from(data);
    this.field = new EmpiricalField(path, this.data, 1);
    this.place = new Float64Array(1);
    this.speed = new Float64Array(1);
  }

  /** The marginal velocity. */
  velocity(x, t) {
    this.place[0] = x;
    this.field.velocity(this.place, t, this.speed);
    return this.speed[0];
  }

  /** The conditional velocity, given a data point. */
  target(x, x1, t) {
    const { path } = this;
    const ratio = path.dSigma(t) / path.sigma(t);
    return ratio * (x - path.alpha(t) * x1) + path.dAlpha(t) * x1;
  }

  /** The marginal and the conditional loss: one quadrature over x_t, a sum over the data. */
  exact(t) {
    const [fm, cfm] = [new Quadratic(), new Quadratic()];
    const [alpha, sigma] = [this.path.alpha(t), this.path.sigma(t)];
    for (let i = 0; i <= NODES; i++) {
      const x = REACH * ((2 * i) / NODES - 1);
      const u = this.velocity(x, t);
      for (const x1 of this.data) {
        const weight = Math.exp(-0.5 * ((x - alpha * x1) / sigma) ** 2);
        fm.add(u, u, weight);
        cfm.add(u, this.target(x, x1, t), weight);
      }
    }
    return { fm, cfm };
  }

  /** The conditional loss of a batch of samples; `points` is filled with places and targets. */
  batch(seed, t, points) {
    const random = new Random(seed);
    const n = points.length / 2;
    for (let i = 0; i < n; i++) points[2 * i + 1] = this.data[random.integer(this.data.length)];
    const loss = new Quadratic();
    for (let i = 0; i < n; i++) {
      const x1 = points[2 * i + 1];
      points[2 * i] = this.path.alpha(t) * x1 + this.path.sigma(t) * random.normal();
      points[2 * i + 1] = this.target(points[2 * i], x1, t);
      loss.add(this.velocity(points[2 * i], t), points[2 * i + 1], 1 / n);
    }
    return loss;
  }
}

/** Points `[n 2]` of a curve over a range. */
function graph([low, high], of, pieces = 120) {
  return Float64Array.from({ length: 2 * pieces + 2 }, (_, i) => {
    const x = low + ((high - low) * (i >> 1)) / pieces;
    return i % 2 ? of(x) : x;
  });
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { path, data, places, plane, step, batches } = fig.get("_settings");
  const losses = new Losses(unpackPath(path), data);
  const velocity = fig.axes({
    x: places,
    y: [-4.6, 4.6],
    box: [0, 0, 0.33, 1],
    narrowBox: [0, 0, 1, 0.27],
    margin: [8, 28, 8, 26],
  });
  const theta = fig.axes({
    x: plane[0],
    y: plane[1],
    equal: true,
    box: [0.33, 0, 0.69, 1],
    narrowBox: [0, 0.27, 1, 0.68],
    margin: [30, 28, 10, 26],
  });
  const cut = fig.axes({
    x: plane[0],
    y: [0, 9],
    box: [0.69, 0, 1, 1],
    narrowBox: [0, 0.68, 1, 1],
    margin: [24, 28, 8, 26],
  });
  fig.describe("Two losses over a plane of two parameters, their gap and their gradients");
  let points;
  let sampled;
  let fm;
  let cfm;

  function refresh() {
    const [n, t] = [fig.get("samples"), fig.get("time")];
    need(n >= 1 && n <= 512 && t >= 0 && t < 1, "samples or time are out of range");
    ({ fm, cfm } = losses.exact(t));
    points = new Float64Array(2 * n);
    const other = new Float64Array(2 * n);
    const seed = (k) => 1000 * fig.get("seed") + k;
    sampled = Array.from({ length: batches }, (_, k) =>
      losses.batch(seed(k), t, k ? other : points),
    );
  }

  /** Draw the samples, the marginal velocity and the velocity of the family. */
  function drawVelocity([p, q], t) {
    const u = (x) => losses.velocity(x, t);
    velocity.title("velocity at xₜ", { dy: -14 });
    velocity.frame();
    velocity.clip(() => {
      velocity.points(points, { color: COLORS.trajectory, radius: 2.2, alpha: 0.75 });
      velocity.line(graph(places, u), { color: COLORS.velocity, width: 2.5 });
      velocity.line(graph(places, (x) => p + q * u(x)), { color: COLORS.learned, width: 2.5 });
    });
    const [low] = velocity.y;
    const words = { align: "left", dy: 13, bold: true };
    velocity.text(places[0], low, "u", { ...words, color: COLORS.velocity, dx: 4 });
    const family = { ...words, color: COLORS.learned, dx: 24 };
    velocity.text(places[0], low, "v = θ₁ + θ₂ u", family);
  }

  /** Draw level lines of both losses, their gradients downhill, and those of the batches. */
  function drawPlane(at) {
    const down = (loss) => loss.gradient(at).map((value) => -value);
    theta.title("θ₂ over θ₁: one gradient", { dy: -14 });
    theta.frame();
    theta.clip(() => {
      const stretch = Math.sqrt(fm.uu / fm.one);
      for (let k = 1; k < 9; k++) {
        const ring = Float64Array.from({ length: 160 }, (_, i) => {
          const angle = (2 * Math.PI * (i >> 1)) / 79;
          return i % 2 ? 1 + (0.5 * k * Math.sin(angle)) / stretch : 0.5 * k * Math.cos(angle);
        });
        theta.line(ring, { color: fig.theme.faint, width: 1 });
      }
      theta.line([plane[0][0], at[1], plane[0][1], at[1]], { color: fig.theme.soft, dash: [1, 5] });
      const tips = sampled.flatMap((loss) => down(loss).map((d, i) => at[i] + step * d));
      theta.points(tips, { color: COLORS.learned, radius: 2, alpha: 0.6 });
    });
    theta.text(0, 1, "×", { size: 20, dy: 1 });
    theta.arrows(at, down(sampled[0]), { color: COLORS.learned, scale: step, alpha: 0.6 });
    theta.arrows(at, down(fm), { color: COLORS.velocity, scale: step, width: 6, alpha: 1 });
    theta.arrows(at, down(cfm), { color: COLORS.learned, scale: step, width: 2, alpha: 1 });
    // In pixels from the corner of the frame, which holds more than the ranges.
    const corner = { x: theta.left - theta.px(0), y: theta.top - theta.py(0) };
    theta.text(0, 0, "θ₁", { dx: corner.x + theta.width - 10, dy: corner.y + theta.height + 13 });
    theta.text(0, 0, "θ₂", { dx: corner.x - 14, dy: corner.y + 10 });
  }

  /** Draw the losses along the dotted line, and the gap at the parameters. */
  function drawCut([p, q]) {
    const ends = [fm.loss([p, q]), cfm.loss([p, q])];
    cut.y = [0, Math.max(9, 1.1 * ends[1])];
    cut.layout();
    cut.title("losses on the dotted line", { dy: -14 });
    cut.frame({ yticks: [0], digits: 0 });
    const along = (loss) => graph(plane[0], (x) => loss.loss([x, q]));
    cut.clip(() => {
      cut.line(along(sampled[0]), { color: COLORS.learned, width: 1.2, dash: [4, 4] });
      cut.line(along(fm), { color: COLORS.velocity, width: 2.5 });
      cut.line(along(cfm), { color: COLORS.learned, width: 2.5 });
    });
    cut.line([p, ends[0], p, ends[1]], { color: fig.theme.exact, width: 2 });
    cut.points([p, ends[0]], { color: COLORS.velocity, radius: 4.5, alpha: 1 });
    cut.points([p, ends[1]], { color: COLORS.learned, radius: 4.5, alpha: 1 });
    cut.text(p, ends[1], "C", { dx: p > 0 ? -9 : 9, dy: -13, bold: true });
    const words = { align: "left", dy: 13, bold: true };
    cut.text(plane[0][0], 0, "FM", { ...words, color: COLORS.velocity, dx: 2 });
    cut.text(plane[0][0], 0, "CFM", { ...words, color: COLORS.learned, dx: 30 });
    cut.text(plane[0][0], 0, "θ₁", { dy: 13, dx: cut.width - 10 });
  }

  fig.onDraw(() => {
    const at = fig.get("theta");
    need(at.every(Number.isFinite), "the parameters are not finite");
    drawVelocity(at, fig.get("time"));
    drawPlane(at);
    drawCut(at);
    const say = (name, loss) => {
      const [first, second] = loss.gradient(at).map((value) => number(value));
      return `${name} ${number(loss.loss(at))} ∇(${first},\u00a0${second})`;
    };
    const gap = number(cfm.loss(at) - fm.loss(at));
    const exact = `${say("FM", fm)}; ${say("CFM", cfm)}; gap ${gap}`;
    fig.say(`${exact}; ${say("batch", sampled[0])}`);
  });

  addButtons(fig, {
    label: "Draw new samples",
    onClick: () => fig.set("seed", (fig.get("seed") + 1) % 1e6),
  });
  const count = { min: 4, max: 512, step: 4, format: (v) => String(v) };
  addSlider(fig, { label: "samples", trait: "samples", ...count });
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 0.9, step: 0.05 });
  addHandle(fig, {
    axes: theta,
    label: "parameters θ₁, θ₂",
    color: COLORS.learned,
    at: () => fig.get("theta"),
    move: (x, y) => fig.set("theta", [x, y]),
  });
  fig.on(["samples", "time", "seed"], refresh);
  fig.on("theta");
  refresh();
}

export default live("Two losses over one plane of parameters", build);
