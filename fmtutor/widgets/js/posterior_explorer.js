import { need } from "./checks.js";
import { COLORS, blend } from "./colors.js";
import { addButtons, addSlider, addToggle } from "./controls.js";
import { EmpiricalField } from "./empirical.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { addPlayButton, animate } from "./motion.js";
import { condOT } from "./paths.js";
import { entropy } from "./softmax.js";
import { Solver } from "./solvers.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 8;
/** Arrows of the field in a row, and rows. */
const [COLUMNS, ROWS] = [19, 11];

/** A number to the hundredth: where a hand puts something. */
function hundredth(value) {
  return Math.round(100 * value) / 100;
}

/** Points of a grid over the plane, `[n 2]`. */
function grid([left, right], [low, high]) {
  return Float64Array.from({ length: 2 * COLUMNS * ROWS }, (_, i) => {
    const k = i >> 1;
    return i % 2
      ? low + ((Math.floor(k / COLUMNS) + 0.5) / ROWS) * (high - low)
      : left + (((k % COLUMNS) + 0.5) / COLUMNS) * (right - left);
  });
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { plane: ranges, end, radius } = fig.get("_settings");
  const [first, path] = [["time", "point", "data"].map((name) => [name, fig.get(name)]), condOT()];
  const plane = fig.axes({ x: ranges[0], y: ranges[1], equal: true });
  const places = grid(...ranges);
  const velocities = new Float64Array(places.length);
  const solver = new Solver("midpoint", 2, Float64Array);
  const u = new Float64Array(2);
  const handles = [];
  let marginal;
  let trail = [];
  let following = false;
  let origin = first;

  /** Take over the data, with a handle for each point. */
  function take() {
    const data = fig.get("data");
    const good = (point) => point?.length === 2 && point.every(Number.isFinite);
    need(data?.length && data.every(good) && good(fig.get("point")), "a point has no place");
    marginal = new EmpiricalField(path, Float64Array.from(data.flat()));
    while (handles.length < data.length) {
      const i = handles.length;
      const handle = addHandle(fig, {
        axes: plane,
        label: `data point ${i + 1}`,
        at: () => fig.get("data")[i] ?? [0, 0],
        move(...to) {
          const moved = fig.get("data").map((old, k) => (k === i ? to.map(hundredth) : old));
          fig.set("data", moved);
        },
      });
      handle.knob.classList.add("fm-point");
      handles.push(handle);
    }
    handles.forEach(({ knob }, i) => (knob.hidden = i >= data.length));
  }

  function drawField(t) {
    marginal.velocity(places, t, velocities);
    plane.arrows(places, velocities, { scale: 0.18 * (1 - t), width: 1, alpha: 0.6 });
  }

  /** One data point: its weight as a disc, its conditional velocity as an arrow that ends there. */
  function drawPoint(x, t, point, w) {
    const size = radius * (fig.width < 480 ? 0.7 : 1) * Math.sqrt(w);
    if (fig.get("clouds")) {
      const centre = point.map((v) => path.alpha(t) * v);
      plane.ring(...centre, path.sigma(t), { color: blend(t), alpha: 0.2 + 0.8 * w });
    }
    plane.points(point, { radius: 3 + size, alpha: 0.35 });
    const along = point.map((v, j) => v - x[j]);
    const length = Math.hypot(...along);
    // Short of the dot, so that the head is seen.
    const scale = Math.max(0, 1 - 7 / (plane.scaleX * length));
    const share = Math.sqrt(w);
    const style = { color: fig.theme.soft, width: 0.8 + 1.7 * share, alpha: 0.3 + 0.7 * share };
    plane.arrows(x, along, { scale, ...style });
    if (w < 0.095) return;
    const [dx, dy] = along.map((v) => ((size + 22) * v) / Math.max(length, 1e-9));
    plane.text(...point, number(w), { dx, dy: -dy, size: 13 });
  }

  /** Velocities are drawn over the time that is left: the average ends at the posterior mean. */
  function drawArrows(x, t, weights) {
    const { data } = marginal;
    weights.forEach((w, i) => drawPoint(x, t, data.subarray(2 * i, 2 * i + 2), w));
    plane.arrows(x, u, { scale: 1 - t, width: 4, alpha: 1 });
    const length = Math.hypot(...u);
    // Where one point has it all, or x is at the mean, there is no room for a name.
    if (Math.max(...weights) > 0.9 || (1 - t) * plane.scaleX * length < 24) return;
    const tip = x.map((v, j) => v + (1 - t) * u[j]);
    const [dx, dy] = [(24 * u[0]) / length, (-16 * u[1]) / length];
    plane.text(...tip, "mₜ(x)", { color: COLORS.velocity, dx, dy, size: 14, bold: true });
  }

  fig.onDraw(() => {
    const [x, t] = [fig.get("point"), fig.get("time")];
    marginal.velocity(x, t, u);
    need(u.every(Number.isFinite), "the field left the numbers");
    const weights = marginal.posterior(x, t);
    const [count, largest] = [Math.exp(entropy(weights)), Math.max(...weights)];
    plane.clip(() => {
      drawTrail(x);
      // The field asks for weights of its own.
      const kept = weights.slice();
      if (fig.get("field")) drawField(t);
      drawArrows(x, t, kept);
      plane.text(...x, "x", { dx: 12, dy: -14, size: 15, align: "left" });
    });
    fig.say(
      `t = ${number(t)}: effective number of data points ${number(count)}, ` +
        `largest weight ${number(largest)}, ` +
        `uₜ(x)\u00a0=\u00a0(${number(u[0])},\u00a0${number(u[1])})`,
    );
  });

  function drawTrail(x) {
    if (trail.length) plane.line([...trail, ...x], { width: 2 });
  }

  const play = animate(
    fig,
    (seconds) => {
      const [t, x] = [fig.get("time"), Float64Array.from(fig.get("point"))];
      const h = Math.min(end - t, seconds / DURATION);
      trail.push(...x);
      solver.step(marginal.velocity, x, t, h);
      following = true;
      fig.set("point", [...x]);
      fig.set("time", Math.min(end, t + h));
      following = false;
      return t + h < end - 1e-9;
    },
    () => {
      // From the end it begins anew, where it was put by hand.
      if (fig.get("time") < end) {
        if (!trail.length) origin = ["time", "point"].map((name) => [name, fig.get(name)]);
      } else restore(origin.filter(([name]) => name !== "data"));
    },
  );

  /** Put traits back to what they were. */
  function restore(values) {
    for (const [name, value] of values) fig.set(name, value);
    trail = [];
  }

  addPlayButton(fig, play, { play: "Follow the field" });
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: end, step: 0.01 });
  addButtons(fig, { label: "Reset", onClick: () => (play.pause(), restore(first)) });
  addToggle(fig, { label: "cloud of each data point", trait: "clouds" });
  addToggle(fig, { label: "field elsewhere", trait: "field" });
  const particle = addHandle(fig, {
    axes: plane,
    label: "x, the particle",
    color: COLORS.noise,
    at: () => fig.get("point"),
    move: (...to) => fig.set("point", to.map(hundredth)),
  });
  particle.knob.style.zIndex = 1;
  fig.on(["time", "point", "data"], () => {
    if (!following) trail = [];
  });
  fig.on("data", take);
  fig.on(["clouds", "field"]);
  take();
}

export default live("The data points a particle may be heading for, and their average", build);
