import { need } from "./checks.js";
import { COLORS, blend } from "./colors.js";
import { addMenu, addSlider, addToggle } from "./controls.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { addPlayButton, animateTime } from "./motion.js";
import { unpackPath } from "./paths.js";
import { Random } from "./rng.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 4;
/** Points of a curve. */
const POINTS = 120;

/** A curve over time, `of(t)` a pair of coordinates, as points `[n 2]`. */
function curve(of) {
  const xy = new Float64Array(2 * POINTS);
  for (let i = 0; i < POINTS; i++) xy.set(of(i / (POINTS - 1)), 2 * i);
  return xy;
}

/** A pair of numbers in words. */
function pair([x, y]) {
  return `(${number(x)},\u00a0${number(y)})`;
}

/** A number to the hundredth: where a hand puts something. */
function hundredth(value) {
  return Math.round(100 * value) / 100;
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const [x, y] = settings.plane;
  const plane = fig.axes({ x, y, equal: true, box: [0, 0, 0.66, 1], narrowBox: [0, 0, 1, 0.6] });
  const curves = fig.axes({
    x: [0, 1],
    y: [0, 1],
    box: [0.66, 0, 1, 1],
    narrowBox: [0, 0.6, 1, 1],
    margin: [48, 20, 16, 40],
  });
  const noise = new Random(settings.seed).normals(new Float64Array(2 * settings.particles));
  const cloud = new Float64Array(noise.length);
  let path;
  let alphas;
  let sigmas;

  /** a x1 + b x0. */
  function mix(a, b) {
    const [x0, x1] = [fig.get("x0"), fig.get("x1")];
    return [a * x1[0] + b * x0[0], a * x1[1] + b * x0[1]];
  }

  function choose() {
    path = unpackPath({ name: fig.get("schedule"), sigma_min: fig.get("sigma_min") });
    alphas = curve((t) => [t, path.alpha(t)]);
    sigmas = curve((t) => [t, path.sigma(t)]);
    width.input.disabled = path.name !== "CondOT";
  }

  /** The name of a ring, outside it at an angle in degrees. */
  function name(centre, radius, degrees, words, color) {
    const [c, s] = [Math.cos, Math.sin].map((f) => f((degrees * Math.PI) / 180));
    const style = { color, size: 15, dx: 14 * c, dy: -14 * s };
    plane.text(centre[0] + radius * c, centre[1] + radius * s, words, style);
  }

  function drawCloud(t) {
    const [color, sigma, centre] = [blend(t), path.sigma(t), mix(path.alpha(t), 0)];
    const start = mix(path.alpha(0), 0);
    plane.ring(...start, path.sigma(0), { color: COLORS.noise, width: 1 });
    plane.ring(...start, 2 * path.sigma(0), { color: COLORS.noise, width: 1, alpha: 0.6 });
    if (fig.get("particles")) {
      for (let i = 0; i < noise.length; i++) cloud[i] = centre[i % 2] + sigma * noise[i];
      plane.points(cloud, { color, radius: 1.8, alpha: 0.5 });
    }
    plane.ring(...centre, sigma, { color, width: 2, fill: 0.12 });
    plane.ring(...centre, 2 * sigma, { color, width: 1.2 });
    name(start, 2 * path.sigma(0), 150, "p₀", COLORS.noise);
    if (sigma > 0.15) name(centre, 2 * sigma, 100, "pₜ", color);
    return centre;
  }

  /** A velocity as an arrow with its name, on the side that is away from `other`. */
  function arrow(from, u, other, name, { color = COLORS.velocity, width = 2 } = {}) {
    const scale = settings.arrow;
    plane.arrows(from, u, { color, scale, width, alpha: 1 });
    const side = Math.sign(u[0] * other[1] - u[1] * other[0]) || 1;
    const length = Math.hypot(...u);
    if (length * scale * plane.scaleX < 30) return;
    const [dx, dy] = [u[1], u[0]].map((v) => (16 * side * v) / length);
    const middle = from.map((v, i) => v + 0.55 * scale * u[i]);
    plane.text(...middle, name, { color, dx, dy, size: 14, bold: true });
  }

  function drawVelocity(xt, t) {
    const u = mix(path.dAlpha(t), path.dSigma(t));
    // Where σ′ diverges there is no arrow to draw.
    if (!u.every(Number.isFinite)) return null;
    const [byData, byNoise] = [mix(path.dAlpha(t), 0), mix(0, path.dSigma(t))];
    if (fig.get("parts")) {
      const corner = xt.map((v, i) => v + settings.arrow * byData[i]);
      arrow(xt, byData, byNoise, "α′x₁", { color: COLORS.data });
      arrow(corner, byNoise, u.map((v) => -v), "σ′x₀", { color: COLORS.noise });
    }
    arrow(xt, u, byData, "uₜ", { width: 3.5 });
    return u;
  }

  function drawCurves(t) {
    curves.frame({ xticks: [0, 0.5, 1], yticks: [0, 0.5, 1], xlabel: "t" });
    curves.line([t, 0, t, 1], { width: 1, color: COLORS.text });
    for (const [xy, name, kind, f, slope] of [
      [alphas, "α", "data", path.alpha(t), path.dAlpha(t)],
      [sigmas, "σ", "noise", path.sigma(t), path.dSigma(t)],
    ]) {
      const color = COLORS[kind];
      curves.line(xy, { color, width: 2 });
      if (fig.get("parts") && Number.isFinite(slope))
        curves.clip(() => {
          const d = 0.22 / Math.hypot(1, slope);
          const tangent = [t - d, f - d * slope, t + d, f + d * slope];
          curves.line(tangent, { color, width: 4, alpha: 0.5 });
        });
      curves.points([t, f], { color, radius: 5, alpha: 1 });
      const right = t < 0.85;
      const style = { color, size: 16, bold: true, align: right ? "left" : "right" };
      curves.text(t, f, name, { ...style, dx: right ? 10 : -10, dy: slope > 0 ? 12 : -12 });
    }
  }

  fig.onDraw(() => {
    const t = fig.get("time");
    need(t >= 0 && t <= 1, "the time lies outside of 0 and 1");
    const ends = ["x0", "x1"].map((name) => fig.get(name));
    for (const end of ends)
      need(end?.length === 2 && end.every(Number.isFinite), "an end is not a point");
    const xt = mix(path.alpha(t), path.sigma(t));
    let u;
    plane.clip(() => {
      plane.line(curve((s) => mix(path.alpha(s), path.sigma(s))), { width: 1.5 });
      const centre = drawCloud(t);
      plane.line([...centre, ...xt], { color: COLORS.text, dash: [2, 4] });
      u = drawVelocity(xt, t);
      plane.points(xt, { color: fig.theme.ink, radius: 5, alpha: 1 });
      plane.text(...xt, "xₜ", { dx: -8, dy: -14, size: 15, align: "right" });
      plane.text(...ends[0], "x₀", { dx: -12, dy: 14, size: 15, align: "right" });
      plane.text(...ends[1], "x₁", { dx: 12, dy: -14, size: 15, align: "left" });
    });
    drawCurves(t);
    fig.say(
      `t = ${number(t)}: α = ${number(path.alpha(t))}, σ = ${number(path.sigma(t))}, ` +
        `xₜ\u00a0=\u00a0${pair(xt)}, ` +
        (u ? `uₜ\u00a0=\u00a0${pair(u)}` : "uₜ has no limit, σ′ diverges"),
    );
  });

  const play = animateTime(fig, DURATION);

  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.01 });
  const names = ["straight", "cosine", "variance preserving"];
  const options = ["CondOT", "Cosine", "VariancePreserving"].map((key, i) => [key, names[i]]);
  addMenu(fig, { label: "path", trait: "schedule", options });
  const width = addSlider(fig, {
    ...{ label: "σ_min", trait: "sigma_min" },
    ...{ min: 0, max: 0.5, step: 0.01 },
  });
  addToggle(fig, { label: "parts of the velocity", trait: "parts" });
  addToggle(fig, { label: "other particles", trait: "particles" });
  const put = (trait) => (...to) => fig.set(trait, to.map(hundredth));
  const point = (trait) => ({ at: () => fig.get(trait), move: put(trait) });
  addHandle(fig, { axes: plane, label: "x0, noise", color: COLORS.noise, ...point("x0") });
  addHandle(fig, { axes: plane, label: "x1, data", color: COLORS.data, ...point("x1") });
  addHandle(fig, {
    axes: curves,
    label: "time on the curves",
    color: COLORS.text,
    step: 0.02,
    lock: "x",
    at: () => [fig.get("time"), 0],
    move: (t) => fig.set("time", hundredth(t)),
  });
  fig.on(["schedule", "sigma_min"], choose);
  fig.on(["x0", "x1", "time", "parts", "particles"]);
  choose();
}

export default live("A Gaussian path from noise to one data point, and its velocity", build);
