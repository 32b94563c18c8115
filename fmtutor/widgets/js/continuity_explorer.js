import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addSlider, addToggle } from "./controls.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { GaussianMixture } from "./mixture.js";
import { addPlayButton, animateTime } from "./motion.js";
import { unpackPath } from "./paths.js";
import { number } from "./words.js";

/** Seconds from noise to data when the time is played. */
const DURATION = 6;
/** Pieces of the line that is drawn, and of the interval when its mass is added up. */
const PIECES = 160;

/** The density on the line, its flux, and the ledger of an interval. */
class Ledger {
  constructor(mixture, steps) {
    Object.assign(this, { mixture, steps });
    this.place = new Float64Array(1);
    this.speed = new Float64Array(1);
    this.masses = new Float64Array(steps + 1);
    this.account = new Float64Array(steps + 1);
  }

  /** p_t(x). */
  density(x, t) {
    this.place[0] = x;
    return Math.exp(this.mixture.logProb(this.place, t));
  }

  /** p_t(x) u_t(x), with the sign that is shown. */
  flux(x, t) {
    const p = this.density(x, t);
    this.mixture.velocity(this.place, t, this.speed);
    return this.sign * p * this.speed[0];
  }

  /** The mass between a and b, by Simpson's rule. */
  mass(t) {
    const h = (this.b - this.a) / PIECES;
    let sum = 0;
    for (let i = 0; i <= PIECES; i++) {
      const weight = i % PIECES === 0 ? 1 : i % 2 ? 4 : 2;
      sum += weight * this.density(this.a + i * h, t);
    }
    return (sum * h) / 3;
  }

  /** The rate at which the mass changes, from the densities alone. */
  rate(t) {
    const h = 1e-4;
    return (this.mass(t + h) - this.mass(t - h)) / (2 * h);
  }

  /** Take another interval or sign: the mass at all times, and what the fluxes say of it. */
  set([a, b], sign) {
    need(Number.isFinite(a) && a < b, "the interval is empty");
    Object.assign(this, { a, b, sign });
    let before = 0;
    for (let k = 0; k <= this.steps; k++) {
      const t = k / this.steps;
      this.masses[k] = this.mass(t);
      const net = this.flux(a, t) - this.flux(b, t);
      const flowed = (before + net) / (2 * this.steps);
      this.account[k] = k ? this.account[k - 1] + flowed : this.masses[0];
      before = net;
    }
  }
}

/** Points `[n 2]` of a curve over a range. */
function curve([low, high], of) {
  return Float64Array.from({ length: 2 * PIECES + 2 }, (_, i) => {
    const x = low + ((high - low) * (i >> 1)) / PIECES;
    return i % 2 ? of(x) : x;
  });
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { path, range, narrowest, steps, dots } = fig.get("_settings");
  const mixture = GaussianMixture.unpack(fig.get("_mixture"), unpackPath(path));
  const ledger = new Ledger(mixture, steps);
  const [low, high] = range;
  const left = { x: range, margin: [12, 8, 12, 26] };
  const line = fig.axes({
    ...left,
    y: [0, 0.56],
    box: [0, 0, 0.62, 0.6],
    narrowBox: [0, 0, 1, 0.36],
  });
  const flow = fig.axes({
    ...left,
    y: [-0.9, 0.9],
    box: [0, 0.6, 0.62, 1],
    narrowBox: [0, 0.36, 1, 0.58],
    margin: [12, 22, 12, 8],
  });
  const sum = fig.axes({
    x: [0, 1],
    y: [0, 1],
    box: [0.62, 0, 1, 0.58],
    narrowBox: [0, 0.58, 1, 0.79],
    margin: [30, 26, 12, 22],
  });
  const bars = fig.axes({
    x: [-1, 1],
    y: [-0.6, 2.6],
    box: [0.62, 0.6, 1, 1],
    narrowBox: [0, 0.79, 1, 1],
    margin: [96, 24, 12, 6],
  });
  fig.describe("A density on a line with its flux, and the ledger of an interval");

  /** Draw the density with its interval and the fluxes at both ends, and the flux below. */
  function drawLine(time, a, b, ends) {
    const p = (x) => ledger.density(x, time);
    line.area(curve([a, b], p), { color: COLORS.exact, alpha: 0.3 });
    line.line(curve(range, p), { color: fig.theme.exact, width: 2 });
    line.line([low, 0, high, 0], { color: fig.theme.faint, width: 1 });
    line.title("density pₜ", { size: 15 });
    flow.title("flux pₜ uₜ", { dy: -10, size: 15 });
    flow.line([low, 0, high, 0], { color: fig.theme.faint, width: 1 });
    flow.line(curve(range, (x) => ledger.flux(x, time)), { color: COLORS.velocity, width: 2 });
    for (const [x, flux, name] of [[a, ends[0], "a"], [b, ends[1], "b"]]) {
      const height = 0.5 * p(x);
      line.arrows([x - 0.5 * flux, height], [flux, 0], { width: 2.6 });
      line.text(x, 0, name, { dy: 19, size: 14 });
      flow.line([x, -0.9, x, 0.9], { color: fig.theme.faint, width: 1, dash: [2, 4] });
      flow.points([x, flux], { color: COLORS.velocity, radius: 4, alpha: 1 });
    }
  }

  /** Draw the mass over time, and dots where the fluxes say that it is. */
  function drawSum(time) {
    const { masses, account } = ledger;
    const top = Math.max(...masses, ...account);
    const bottom = Math.min(0, ...account);
    sum.y = [bottom, bottom + 1.15 * (top - bottom)];
    sum.layout();
    sum.frame({ xticks: [0, 1], yticks: [0], digits: 0 });
    sum.title("mass in [a, b]", { dy: -14 });
    if (bottom < 0) sum.line([0, 0, 1, 0], { color: fig.theme.faint, width: 1 });
    sum.line([time, sum.y[0], time, sum.y[1]], { color: fig.theme.faint, width: 1, dash: [2, 4] });
    sum.line([...masses].flatMap((m, k) => [k / steps, m]), { color: fig.theme.exact, width: 2 });
    const past = [];
    for (let k = 0; k / steps <= time + 1e-9; k += dots) past.push(k / steps, account[k]);
    sum.points(past, { color: COLORS.velocity, radius: 3, alpha: 1 });
    sum.text(0.5, sum.y[0], "time t", { dy: 13, size: 12, color: fig.theme.soft });
  }

  /** Draw what comes in, what goes out, and the rate of change, one below the other. */
  function drawBars([inflow, outflow], rate) {
    const net = inflow - outflow;
    const side = 1.05 * Math.max(0.8, ...[inflow, outflow, net, rate].map(Math.abs));
    bars.x = [-side, side];
    bars.layout();
    const bar = (row, from, to, style) =>
      bars.area([from, row + 0.36, to, row + 0.36], { base: row - 0.36, alpha: 1, ...style });
    const start = (row, words) => bars.text(-side, row, words, { align: "right", dx: -6 });
    bar(2, 0, inflow, { color: COLORS.velocity });
    bar(1, inflow, net, { color: COLORS.velocity, alpha: 0.5 });
    bar(0, 0, rate, { color: fig.theme.exact, alpha: 0.75 });
    bars.line([0, -0.5, 0, 2.5], { color: fig.theme.faint, width: 1 });
    bars.line([net, -0.5, net, 1.4], { color: COLORS.velocity, width: 2, dash: [4, 4] });
    start(2, `in ${number(inflow)}`);
    start(1, `out ${number(outflow)}`);
    start(0, `change ${number(rate)}`);
    bars.text(0, 2.6, "in − out = change?", { dy: -10 });
  }

  fig.onDraw(() => {
    const time = fig.get("time");
    need(time >= 0 && time <= 1, "the time lies outside of 0 and 1");
    const { a, b } = ledger;
    const ends = [ledger.flux(a, time), ledger.flux(b, time)];
    const rate = ledger.rate(time);
    drawLine(time, a, b, ends);
    drawSum(time);
    drawBars(ends, rate);
    const net = ends[0] - ends[1];
    const same = Math.abs(net - rate) < 5e-4 ? "=" : "≠";
    const words = [ledger.mass(time), ...ends, net, rate].map((value) => number(value, 3));
    const [mass, inflow, outflow, less, change] = words;
    fig.say(
      `t = ${number(time)}: mass ${mass}; in ${inflow} − out ${outflow} = ${less} ${same} ` +
        `rate of change ${change}`,
    );
  });

  const play = animateTime(fig, DURATION);
  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.01 });
  addToggle(fig, { label: "flip the sign of the field", trait: "flipped" });

  const refresh = () => ledger.set(fig.get("interval"), fig.get("flipped") ? -1 : 1);
  const knob = (label, end, move) =>
    addHandle(fig, {
      axes: line,
      label,
      lock: "x",
      color: COLORS.exact,
      at: () => [fig.get("interval")[end], 0],
      move: (x) => fig.set("interval", move(x, fig.get("interval"))),
    });
  knob("left end a", 0, (x, [, b]) => [Math.max(low, Math.min(x, b - narrowest)), b]);
  knob("right end b", 1, (x, [a]) => [a, Math.min(high, Math.max(x, a + narrowest))]);
  fig.on(["interval", "flipped"], refresh);
  fig.on("time");
  refresh();
}

export default live("A density on a line, its flux, and the ledger of an interval", build);
