import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addMenu, addSlider } from "./controls.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { drawHeat } from "./heat.js";
import { GaussianMixture } from "./mixture.js";
import { condOT } from "./paths.js";
import { Random } from "./rng.js";
import { TABLEAUX, follow } from "./solvers.js";
import { number, raised, scientific } from "./words.js";

/** Milliseconds of a frame that may go into the points of the curves. */
const BUDGET = 12;
/** Cells along a side of the picture of the density. */
const CELLS = 90;

/** A small number as a reader sees it: three decimals, or two digits and a power of ten. */
function small(value) {
  if (value >= 0.01) return number(value, 3);
  return value < 1e-12 ? "0" : scientific(value);
}

/** One data set: its field, the exact trajectories, and the errors measured so far. */
class Bench {
  constructor(packed, { points, fine, seed }) {
    this.mixture = GaussianMixture.unpack(packed, condOT());
    this.fine = fine;
    this.x0 = Float64Array.from(new Random(seed).normals(new Float32Array(2 * points)));
    this.exact = this.follow(this.x0, "rk4", fine);
    this.errors = new Map();
  }

  follow(x0, method, steps) {
    return follow(this.mixture.velocity, x0, { method, steps });
  }

  /** Distance of two ends, the median over the points. */
  distance(end, exact) {
    const distances = new Float64Array(end.length / 2);
    for (let i = 0; i < distances.length; i++)
      distances[i] = Math.hypot(end[2 * i] - exact[2 * i], end[2 * i + 1] - exact[2 * i + 1]);
    const middle = distances.sort()[(distances.length - 1) >> 1];
    need(Number.isFinite(middle), "the flow left the numbers");
    return middle;
  }

  /** The error of a method, measured once. */
  error(method, steps) {
    const key = `${method} ${steps}`;
    if (!this.errors.has(key)) {
      const path = this.follow(this.x0, method, steps);
      this.errors.set(key, this.distance(path[steps], this.exact[this.fine]));
    }
    return this.errors.get(key);
  }

  /** The density of the data on a grid over the square. */
  density(limit) {
    const at = (i) => limit * ((2 * i + 1) / CELLS - 1);
    return Float32Array.from({ length: CELLS * CELLS }, (_, i) =>
      Math.exp(this.mixture.logProb([at(i % CELLS), at(Math.floor(i / CELLS))], 1)),
    );
  }
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { trails, limit, steps: stops, inks, names, points } = settings;
  need(points > 0, "there are no points");
  const side = [-limit, limit];
  const plane = fig.axes({
    ...{ x: side, y: side, equal: true, margin: [4, 4, 4, 4] },
    ...{ box: [0, 0, 0.51, 1], narrowBox: [0, 0, 1, 0.6] },
  });
  const bill = fig.axes({
    ...{ x: settings.evaluations, y: settings.errors, margin: [50, 10, 8, 42] },
    ...{ box: [0.51, 0, 1, 1], narrowBox: [0, 0.6, 1, 1] },
  });
  const benches = {};
  const kept = {}; // the paths of the present settings
  let bench;
  let heat;

  function choose() {
    const name = fig.get("dataset");
    bench = benches[name] ??= new Bench(fig.get("_mixtures")[name], settings);
    heat = bench.heat ??= bench.density(limit);
    solve();
  }

  function solve() {
    const [method, steps] = [fig.get("method"), fig.get("steps")];
    need(steps >= 1 && steps <= stops.at(-1), "there are no steps, or too many");
    kept.path = bench.follow(bench.x0, method, steps);
    probe();
    fig.describe(
      `Trajectories of ${names[method]} with ${steps} steps beside the exact ones, ` +
        `and error against evaluations for four methods`,
    );
  }

  function probe() {
    const x0 = Float64Array.from(fig.get("x0"));
    kept.way = bench.follow(x0, fig.get("method"), fig.get("steps"));
    kept.exactWay = bench.follow(x0, "rk4", bench.fine);
  }

  /** The first trajectories of a path, as one stroke. */
  function drawTrails(path, style) {
    fig.ctx.beginPath();
    for (let i = 0; i < 2 * trails; i += 2)
      path.forEach((x, k) =>
        fig.ctx[k ? "lineTo" : "moveTo"](plane.px(x[i]), plane.py(x[i + 1])),
      );
    plane.stroke(style);
  }

  const flat = (way) => way.flatMap((x) => [...x]);

  function drawPlane(ink) {
    const { path, way, exactWay } = kept;
    drawHeat(plane, heat, CELLS, { alpha: 0.8 });
    drawTrails(bench.exact, { width: 1, alpha: 0.8 });
    drawTrails(path, { color: ink, width: 1, alpha: 0.85 });
    plane.points(path[path.length - 1], { color: fig.theme.exact, radius: 1.8, alpha: 0.8 });
    plane.line(flat(exactWay), { color: fig.theme.exact, width: 2 });
    plane.line(flat(way), { color: ink, width: 2.5 });
    plane.text(...way[0], "x₀", { dx: 17, dy: 7, bold: true });
    plane.points(flat(way.slice(1)), { color: ink, radius: 3.2, alpha: 1 });
    const [end, exact] = [way[way.length - 1], exactWay[exactWay.length - 1]];
    plane.line([...end, ...exact], { color: fig.theme.exact, width: 1.2, dash: [3, 3] });
    plane.ring(...exact, 5 / plane.scaleX, { color: fig.theme.exact, width: 2 });
  }

  function drawBill(method, nfe) {
    bill.frame({ xlabel: "evaluations (NFE)", ylabel: "" });
    const [left, bottom] = [bill.x[0], bill.y[0]];
    const soft = { color: fig.theme.soft, size: 12 };
    for (let k = 0; k <= 8; k += 2) bill.text(k, bottom, String(2 ** k), { dy: 12, ...soft });
    for (let k = 0; k >= bottom; k -= 2)
      bill.text(left, k, `10${raised(k)}`, { dx: -6, align: "right", ...soft });
    bill.title("error of a typical point", { dy: 4 });
    const at = Math.log2(nfe);
    const legend = bottom + 76 / bill.scaleY; // its upper edge
    bill.line([at, legend, at, bill.y[1] - 0.7], { color: fig.theme.faint, dash: [3, 4] });
    Object.entries(inks).forEach(([name, color], i) => {
      const chosen = name === method;
      const cost = TABLEAUX[name].b.length;
      const known = stops.filter((n) => bench.errors.has(`${name} ${n}`));
      const xy = known.flatMap((n) => [Math.log2(cost * n), Math.log10(bench.error(name, n))]);
      bill.clip(() => {
        bill.line(xy, { color, width: chosen ? 3 : 1.5 });
        if (chosen) bill.points(xy, { color, radius: 3, alpha: 1 });
      });
      const [x, y] = [left + 12 / bill.scaleX, legend - (16 * i + 12) / bill.scaleY];
      bill.line([x, y, x + 18 / bill.scaleX, y], { color, width: chosen ? 4 : 2 });
      bill.text(x, y, names[name], { dx: 26, align: "left", bold: chosen });
    });
  }

  fig.onDraw(() => {
    const [method, steps] = [fig.get("method"), fig.get("steps")];
    const nfe = steps * TABLEAUX[method].b.length;
    const error = bench.error(method, steps);
    // The curves grow over a few frames, a number of steps after the other.
    const end = performance.now() + (fig.calm ? Infinity : BUDGET);
    const all = stops.flatMap((n) => Object.keys(inks).map((name) => [name, n]));
    const missing = all.filter((pair) => !bench.errors.has(pair.join(" ")));
    while (missing.length && performance.now() < end) bench.error(...missing.shift());
    if (missing.length) fig.redraw();
    drawPlane(inks[method]);
    drawBill(method, nfe);
    const place = [Math.log2(nfe), Math.max(bill.y[0], Math.log10(error))];
    bill.points(place, { color: fig.theme.exact, radius: 7, alpha: 1 });
    bill.points(place, { color: inks[method], radius: 5, alpha: 1 });
    if (method === "euler" && steps === 1) {
      const mean = kept.path[1].subarray(0, 2); // of the data: there every point ends
      plane.points(mean, { color: fig.theme.exact, radius: 5, alpha: 1 });
      plane.text(...mean, "E[x₁]", { dx: -12, dy: -12, size: 15, align: "right", bold: true });
    }
    const own = bench.distance(kept.way[steps], kept.exactWay[bench.fine]);
    fig.say(
      `${names[method]}, N = ${steps}: NFE = ${nfe}, error of a typical point ${small(error)}, ` +
        `from x₀ ${small(own)}`,
    );
  });

  addMenu(fig, { label: "solver", trait: "method", options: Object.entries(names) });
  const nearest = () => stops.filter((n) => n <= fig.get("steps")).length - 1;
  const slider = addSlider(fig, {
    ...{ label: "steps N", min: 0, max: stops.length - 1, step: 1, value: nearest() },
    format: () => String(fig.get("steps")),
    onInput: (k) => fig.set("steps", stops[k]),
  });
  addMenu(fig, { label: "data", trait: "dataset", options: Object.keys(fig.get("_mixtures")) });
  addHandle(fig, {
    ...{ axes: plane, label: "x₀", color: COLORS.noise, step: 0.1 },
    at: () => fig.get("x0"),
    move: (x, y) => fig.set("x0", [x, y]),
  });
  fig.on(["method", "steps"], solve);
  fig.on("steps", () => slider.show(nearest()));
  fig.on("dataset", choose);
  fig.on("x0", probe);
  choose();
}

export default live("Trajectories of a solver, and its error against evaluations", build);
