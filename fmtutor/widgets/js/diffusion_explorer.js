import { need } from "./checks.js";
import { between, timesOn } from "./clocks.js";
import { COLORS } from "./colors.js";
import { addButtons, addMenu, addSlider } from "./controls.js";
import { walk } from "./exponential.js";
import { live } from "./figure.js";
import { drawHeat } from "./heat.js";
import { GaussianMixture } from "./mixture.js";
import { addPlayButton, animate } from "./motion.js";
import { unpackPath } from "./paths.js";
import { Random } from "./rng.js";
import { Solver } from "./solvers.js";
import { number, raised, scientific } from "./words.js";

/** Milliseconds of a frame that may go into the points of the curves. */
const BUDGET = 12;
/** Cells along a side of the picture of the density. */
const CELLS = 90;
/** Seconds that a sweep takes from one end of the schedules to the other. */
const DURATION = 8;

/** A small number as a reader sees it: three decimals, or two digits and a power of ten. */
const small = (value) => (value >= 0.01 ? number(value, 3) : scientific(value));

/** The mixture on every schedule: exact ways, and the ends measured so far. */
class Bench {
  constructor(packed, settings) {
    const { points, schedules, seed, span, fine } = settings;
    this.paths = schedules.map(([, path]) => unpackPath(path));
    this.mixture = GaussianMixture.unpack(packed, this.paths[0]);
    this.noise = Float64Array.from(new Random(seed).normals(new Float32Array(2 * points)));
    Object.assign(this, { span, seed, swept: new Map() });
    this.exact = this.follow(fine);
  }

  /** The path at a place among the schedules. */
  path(place) {
    const k = Math.min(Math.floor(place), this.paths.length - 2);
    if (place === k || place === k + 1) return this.paths[place];
    return between(this.paths[k], this.paths[k + 1], place - k);
  }

  /** The exact ways: on which path does not matter. */
  follow(fine) {
    const path = (this.mixture.path = this.paths[0]);
    const times = timesOn(path, "log-SNR", this.span, fine);
    const solver = new Solver("rk4", this.noise.length, Float64Array);
    const way = [this.noise.map((value) => path.sigma(times[0]) * value)];
    for (let k = 0; k < fine; k++) {
      const x = way[k].slice();
      solver.step(this.mixture.velocity, x, times[k], times[k + 1] - times[k]);
      way.push(x);
    }
    return unscaled(path, times, way);
  }

  /** The points of a sampler at each of its times. */
  ways(sampler, grid, steps, place) {
    const path = (this.mixture.path = this.path(place));
    const times = timesOn(path, grid, this.span, steps);
    const x0 = this.noise.map((value) => path.sigma(times[0]) * value);
    const random = new Random(this.seed + 1);
    return unscaled(path, times, walk(this.mixture, times, x0, sampler, random));
  }

  /** Where a sampler ends on a schedule of the curves, measured once. */
  ends(sampler, grid, steps, place) {
    const key = [sampler, grid, steps, place].join(" ");
    if (!this.swept.has(key)) this.swept.set(key, this.ways(sampler, grid, steps, place)[steps]);
    return this.swept.get(key);
  }

  known(...key) {
    return this.swept.has(key.join(" "));
  }

  /** The density of the data on a grid over the square. */
  density(limit) {
    const at = (i) => limit * ((2 * i + 1) / CELLS - 1);
    this.mixture.path = this.paths[0];
    return Float32Array.from({ length: CELLS * CELLS }, (_, i) =>
      Math.exp(this.mixture.logProb([at(i % CELLS), at(Math.floor(i / CELLS))], 1)),
    );
  }
}

/** Points at some times over √(α² + σ²): what no schedule's scale changes. */
function unscaled(path, times, way) {
  const scale = (k) => Math.hypot(path.alpha(times[k]), path.sigma(times[k]));
  return way.map((x, k) => x.map((value) => value / scale(k)));
}

/** Distances of points from others, in order. */
function distances(a, b) {
  const found = new Float64Array(a.length / 2);
  for (let i = 0; i < found.length; i++)
    found[i] = Math.hypot(a[2 * i] - b[2 * i], a[2 * i + 1] - b[2 * i + 1]);
  need(found.every(Number.isFinite), "the flow left the numbers");
  return found.sort();
}

/** The distance of a typical point: the median. */
const typical = (a, b) => distances(a, b)[(a.length / 2 - 1) >> 1];

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { trails, limit, steps: stops, inks, names, grids, points, still } = settings;
  need(points > 0, "there are no points");
  const traits = ["schedule", "sampler", "grid", "steps"];
  const first = traits.map((name) => [name, fig.get(name)]);
  const titles = settings.schedules.map(([name]) => name);
  const top = titles.length - 1;
  const side = [-limit, limit];
  const plane = fig.axes({
    ...{ x: side, y: side, equal: true, margin: [4, 22, 4, 4] },
    ...{ box: [0, 0, 0.51, 1], narrowBox: [0, 0, 1, 0.6] },
  });
  const bill = fig.axes({
    ...{ x: [-0.05, top + 0.05], y: settings.errors, margin: [50, 40, 14, 42] },
    ...{ box: [0.51, 0, 1, 1], narrowBox: [0, 0.6, 1, 1] },
  });
  const bench = new Bench(fig.get("_mixture"), settings);
  const heat = bench.density(limit);
  const places = Array.from({ length: top * settings.stops + 1 }, (_, k) => k / settings.stops);
  const flows = Object.keys(inks).filter((name) => name !== "ancestral");
  let ways;

  /** A place among the schedules in words. */
  function title(place) {
    const k = Math.floor(place);
    if (place === k) return titles[k];
    return `${Math.round(100 * (place - k))} % to ${titles[k + 1]}`;
  }

  const state = () => ["sampler", "grid", "steps"].map((name) => fig.get(name));

  function solve() {
    const [sampler, grid, steps] = state();
    const place = fig.get("schedule");
    need(sampler in names && grid in grids, "no sampler or grid of this name");
    need(Number.isInteger(steps) && steps >= stops[0] && steps <= stops.at(-1), "so many steps");
    need(Number.isFinite(place) && place >= 0 && place <= top, "there is no such schedule");
    ways = bench.ways(sampler, grid, steps, place);
    fig.describe(
      `Samples of ${names[sampler]} in ${steps} steps, ${grids[grid]}, beside the exact ones, ` +
        `and error of three samplers against the schedule`,
    );
  }

  /** The first trajectories, as one stroke. */
  function drawTrails(path, style) {
    fig.ctx.beginPath();
    for (let i = 0; i < 2 * trails; i += 2)
      path.forEach((x, k) => fig.ctx[k ? "lineTo" : "moveTo"](plane.px(x[i]), plane.py(x[i + 1])));
    plane.stroke(style);
  }

  function drawPlane(sampler, swept) {
    const ink = inks[sampler];
    const some = (x) => x.subarray(0, 2 * trails);
    plane.clip(() => {
      drawHeat(plane, heat, CELLS, { alpha: 0.8 });
      drawTrails(bench.exact, { width: 1, alpha: 0.8 });
      drawTrails(ways, { color: ink, width: 1, alpha: 0.85 });
      plane.points(some(ways[0]), { color: COLORS.noise, radius: 2, alpha: 1 });
      plane.points(ways.at(-1).subarray(2 * trails), { color: ink, radius: 1.8, alpha: 0.8 });
      drawTrails(swept, { color: fig.theme.exact, width: 2.6 });
      plane.points(some(ways.at(-1)), { color: fig.theme.exact, radius: 3.8, alpha: 1 });
      plane.points(some(ways.at(-1)), { color: ink, radius: 2.8, alpha: 1 });
    });
    if (swept.length < places.length) return; // more is to come
    const far = Math.max(...swept.map((x) => distances(x, swept[0]).at(-1)));
    const what = far > still ? "the ends" : "no end";
    plane.title(`${names[sampler]}: the schedule moves ${what}`, { dy: -10, bold: true });
  }

  function drawBill([sampler, grid, steps]) {
    bill.frame({ xlabel: "schedule" });
    const [low, high] = bill.y;
    const soft = { color: fig.theme.soft, size: 12 };
    titles.forEach((name, k) => bill.text(k, low, name, { dy: 12, ...soft }));
    for (let k = 0; k >= low; k--)
      bill.text(bill.x[0], k, `10${raised(k)}`, { dx: -6, align: "right", ...soft });
    bill.title("error of a typical point", { dy: -28 });
    const place = fig.get("schedule");
    bill.line([place, low, place, high], { color: fig.theme.faint, dash: [3, 4] });
    flows.forEach((name, i) => {
      const color = inks[name];
      const chosen = name === sampler;
      const xy = places
        .filter((at) => bench.known(name, grid, steps, at))
        .flatMap((at) => [at, Math.log10(error(bench.ends(name, grid, steps, at)))]);
      bill.clip(() => bill.line(xy, { color, width: chosen ? 3.5 : 2 }));
      // A row above the curves, in which the last word of a name has room.
      const [x, y] = [(i * top) / flows.length + 0.1, high + 9 / bill.scaleY];
      bill.line([x, y, x + 14 / bill.scaleX, y], { color, width: chosen ? 4 : 2 });
      const word = names[name].split(" ").at(-1);
      bill.text(x, y, word, { dx: 20, align: "left", bold: chosen });
    });
    if (!flows.includes(sampler)) return;
    const at = [place, Math.log10(error(ways.at(-1)))];
    bill.points(at, { color: fig.theme.exact, radius: 7, alpha: 1 });
    bill.points(at, { color: inks[sampler], radius: 5, alpha: 1 });
  }

  /** The error of a typical point. */
  const error = (end) => typical(end, bench.exact.at(-1));

  fig.onDraw(() => {
    const [sampler, grid, steps] = state();
    // The curves grow over a few frames, a schedule after the other; the chosen one is the first.
    const until = performance.now() + (fig.calm ? Infinity : BUDGET);
    const missing = [sampler, ...flows]
      .flatMap((name) => places.map((place) => [name, grid, steps, place]))
      .filter((key) => !bench.known(...key));
    while (missing.length && performance.now() < until) bench.ends(...missing.shift());
    if (missing.length) fig.redraw();
    const swept = places
      .filter((place) => bench.known(sampler, grid, steps, place))
      .map((place) => bench.ends(sampler, grid, steps, place));
    drawPlane(sampler, swept);
    drawBill([sampler, grid, steps]);
    const end = ways.at(-1);
    const moved = typical(end, bench.ends(sampler, grid, steps, 0));
    const wrong = flows.includes(sampler) ? `error ${small(error(end))}` : "new noise, other points";
    fig.say(
      `${names[sampler]}, N = ${steps}, ${title(fig.get("schedule"))}: ${wrong}; ` +
        `moved by ${moved > still ? small(moved) : "0"} since the straight path`,
    );
  });

  const sweep = animate(
    fig,
    (seconds) => {
      fig.set("schedule", Math.min(top, fig.get("schedule") + (top * seconds) / DURATION));
      return fig.get("schedule") < top;
    },
    () => fig.get("schedule") >= top && fig.set("schedule", 0),
  );

  addPlayButton(fig, sweep, { play: "Sweep the schedule" });
  const slider = addSlider(fig, {
    ...{ label: "schedule", trait: "schedule", min: 0, max: top, step: 1 / settings.stops },
    format: (place) => titles[place] ?? number(place),
  });
  // As wide for all words: the slider must not change its length under a hand.
  slider.input.nextSibling.style.minWidth = "3.6em";
  addMenu(fig, { label: "sampler", trait: "sampler", options: Object.entries(names) });
  const nearest = () => stops.filter((n) => n <= fig.get("steps")).length - 1;
  const count = addSlider(fig, {
    ...{ label: "steps N", min: 0, max: stops.length - 1, step: 1, value: nearest() },
    format: () => String(fig.get("steps")),
    onInput: (k) => fig.set("steps", stops[k]),
  });
  addMenu(fig, { label: "grid", trait: "grid", options: Object.entries(grids) });
  addButtons(fig, {
    label: "Reset",
    onClick() {
      sweep.pause();
      for (const [name, value] of first) fig.set(name, value);
    },
  });
  fig.on(traits, solve);
  fig.on("steps", () => count.show(nearest()));
  solve();
}

export default live("Samples of a mixture, and their error against the schedule", build);
