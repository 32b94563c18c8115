import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addButtons, addMenu, addSlider, addToggle } from "./controls.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { drawHeat } from "./heat.js";
import { addPlayButton, animate } from "./motion.js";
import { Solver } from "./solvers.js";
import { Strips } from "./strips.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 8;
/** Cells of the picture of the density: times, and places. */
const [TIMES, PLACES] = [120, 180];
/** Arrows of the field: times, and places; on a narrow screen, too. */
const [GRID, NARROW_GRID] = [[9, 12], [6, 12]];
/** How much time the arrows of the field take, and those at the place looked at. */
const [SHORT, LONG] = [0.045, 0.2];
/** Pieces of the curves beside the plane. */
const PIECES = 200;

/** A number to the hundredth: where a hand puts something. */
const hundredth = (value) => Math.round(100 * value) / 100;

/** A number to three digits, so that the line of text keeps its length near the end of time. */
const brief = (value) => number(value, Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);

/** The middle of a cell, of so many between two ends. */
const middle = (low, high, k, n) => low + ((high - low) * (k + 0.5)) / n;

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { range, reach, end, widest, starts, shown: choices } = fig.get("_settings");
  const names = ["points", "sigma_min", "time", "place", "shown", "arrows"];
  const first = names.map((name) => [name, fig.get(name)]);
  const [low, high] = range;
  const plane = fig.axes({
    ...{ x: [0, 1], y: range, box: [0, 0, 0.78, 1], narrowBox: [0, 0, 0.8, 1] },
    margin: [26, 26, 56, 36],
  });
  const cut = fig.axes({
    ...{ x: [0, 1.08], y: range, box: [0.78, 0, 1, 1], narrowBox: [0.8, 0, 1, 1] },
    margin: [2, 26, 6, 36],
  });
  const solver = new Solver("rk4", 1, Float64Array);
  let strips;
  let tracks;
  let heat;
  let hover = null;
  let following = false;
  let moved = false; // by hand, since it was last played
  let origin = first.slice(2, 4);

  /** Whose density and field are shown: 0 or 1 for a point alone, -1 for both. */
  const alone = () => choices.indexOf(fig.get("shown")) - 1;
  const density = (x, t) =>
    alone() < 0 ? strips.mixture(x, t) : strips.density(x, t, alone());
  const velocity = (x, t) =>
    alone() < 0 ? strips.velocity(x, t) : strips.conditional(x, t, alone());
  const both = () => (alone() < 0 ? [0, 1] : [alone()]);

  /** Take over the points and the width. */
  function take() {
    const [points, width] = [fig.get("points"), fig.get("sigma_min")];
    const good = (x) => Number.isFinite(x) && Math.abs(x) <= reach;
    need(points?.length === 2 && points.every(good), "a point has no place");
    need(Number.isFinite(width) && width >= 0 && width <= widest, "a width out of its range");
    strips = new Strips(points, width, end);
    tracks = starts.map((x) => strips.track(x, 0));
    paint();
  }

  /** The density on a grid; each time has shades of its own, up to its largest density. */
  function paint() {
    need(choices.includes(fig.get("shown")), "nothing of this name can be shown");
    heat = new Float64Array(TIMES * PLACES);
    for (let k = 0; k < TIMES; k++) {
      const t = Math.min(end, middle(0, 1, k, TIMES));
      let top = 1e-300;
      for (let i = 0; i < PLACES; i++) {
        const p = density(middle(low, high, i, PLACES), t);
        heat[i * TIMES + k] = p;
        top = Math.max(top, p);
      }
      for (let i = 0; i < PLACES; i++) heat[i * TIMES + k] /= top;
    }
  }

  /** Where and when the reader looks: under the mouse, or else where the handle is. */
  function looked() {
    const [t, x] = hover ?? [fig.get("time"), fig.get("place")];
    need(Number.isFinite(t) && t >= 0 && t <= end, "the time lies outside of its range");
    need(Number.isFinite(x) && x >= low && x <= high, "the place lies outside of the line");
    return [t, x];
  }

  /** Lines of walkers to the points, and where each is now. */
  function drawLines(t) {
    const ends = both().flatMap((i) => starts.map((x) => strips.line(x, 0, i)));
    for (const line of ends) plane.line(line, { color: fig.theme.soft, width: 0.8, alpha: 0.75 });
    const now = ends.flatMap(([, x0, , x1]) => [t, x0 + t * (x1 - x0)]);
    plane.points(now, { color: fig.theme.soft, radius: 2, alpha: 1 });
  }

  /** Tracks of the one field, and where each is now. */
  function drawTracks(t) {
    for (const track of tracks) plane.line(track, { color: COLORS.velocity, width: 2 });
    const now = tracks.flatMap((track) => [t, interpolate(track, t)]);
    plane.points(now, { color: COLORS.velocity, radius: 3.2, alpha: 1 });
  }

  function drawArrows() {
    const [columns, rows] = fig.width < 480 ? NARROW_GRID : GRID;
    for (let k = 0; k < columns; k++)
      for (let i = 0; i < rows; i++) {
        const [t, x] = [middle(0, 1, k, columns), middle(low, high, i, rows)];
        drawArrow(t, x, velocity(x, t), SHORT, { width: 1.1, alpha: 0.8 });
      }
  }

  /** An arrow in the plane of time and place, along a velocity, over so much time. */
  function drawArrow(t, x, u, over, style) {
    const span = Math.min(over, 1 - t);
    plane.arrows([t, x], [span, span * u], style);
  }

  /** What meets at the place looked at: both lines, their arrows, and the one in between. */
  function drawPlace(t, x, { weights, velocities, mean }) {
    const span = Math.min(LONG, 1 - t);
    weights.forEach((w, i) => {
      const strong = { color: fig.theme.exact, alpha: 0.35 + 0.65 * w };
      plane.line(strips.line(x, t, i), { ...strong, width: 1, dash: [4, 4] });
      drawArrow(t, x, velocities[i], LONG, { ...strong, width: 1.4 + 1.4 * w });
    });
    const tips = velocities.flatMap((u) => [t + span, x + span * u]);
    plane.line(tips, { color: fig.theme.soft, width: 1, dash: [2, 4] });
    if (alone() < 0) plane.line(strips.track(x, t), { color: COLORS.velocity, width: 3.2 });
    drawArrow(t, x, mean, LONG, { width: 4, alpha: 1 });
  }

  /** Beside the points, their weights; above, what is to be seen. */
  function drawWords(t, weights) {
    const { points } = strips;
    const upper = points[1] >= points[0] ? 1 : 0;
    // Those of points that are close make room for each other.
    const room = Math.max(0, 9 - (Math.abs(points[1] - points[0]) * plane.scaleY) / 2);
    weights.forEach((w, i) => {
      const dy = i === upper ? -room : room;
      plane.text(1, points[i], number(w), { dx: 16, dy, size: 13, align: "left" });
    });
    const above = { dy: -12, size: 13 };
    const right = { ...above, align: "right", color: COLORS.velocity, bold: true };
    const lines = alone() < 0 ? "lines cross" : "lines of one strip do not";
    plane.text(0, high, lines, { ...above, align: "left", color: fig.theme.soft });
    if (alone() < 0) plane.text(1, high, "tracks do not", right);
    plane.text(0, 0, "x", { dx: -13, size: 13, color: fig.theme.soft });
    cut.title("density", { dy: -12, size: 13, color: fig.theme.soft });
    cut.text(0.54, low, `t = ${number(t)}`, { dy: 12, size: 12, color: fig.theme.soft });
  }

  /** The densities at the time looked at, along the line; each point's has half of the mass. */
  function drawCut(t, x) {
    const place = (k) => low + ((high - low) * k) / PIECES;
    const curve = (of) =>
      Array.from({ length: PIECES + 1 }, (_, k) => [of(place(k)), place(k)]).flat();
    const whole = curve((y) => strips.mixture(y, t));
    let top = 0;
    for (let k = 0; k < whole.length; k += 2) top = Math.max(top, whole[k]);
    const scaled = (xy) => xy.map((value, k) => (k % 2 ? value : value / top));
    for (const i of [0, 1]) {
      const part = scaled(curve((y) => 0.5 * strips.density(y, t, i)));
      cut.line(part, { color: COLORS.data, width: 1.5 });
    }
    cut.line(scaled(whole), { color: fig.theme.exact, width: 2 });
    cut.line([0, x, 1.08, x], { color: fig.theme.soft, width: 1, dash: [2, 4] });
    const shares = [0, 1].flatMap((i) => [(0.5 * strips.density(x, t, i)) / top, x]);
    cut.points(shares, { radius: 3.2, alpha: 1 });
  }

  fig.onDraw(() => {
    const [t, x] = looked();
    const known = strips.at(x, t);
    const { weights, velocities, mean, variance } = known;
    need([mean, variance].every(Number.isFinite), "the field left the numbers");
    plane.clip(() => {
      drawHeat(plane, heat, TIMES, { max: 1, alpha: 0.55 });
      drawLines(t);
      if (fig.get("arrows")) drawArrows();
      if (alone() < 0) drawTracks(t);
      plane.line([t, low, t, high], { color: fig.theme.faint, width: 1, dash: [2, 4] });
      drawPlace(t, x, known);
    });
    plane.frame({ xticks: [0, 1], yticks: [-2, 2], xlabel: "time t", digits: 0 });
    drawWords(t, weights);
    cut.clip(() => drawCut(t, x));
    const [u, v] = velocities.map(brief);
    fig.say(
      `t = ${number(t)}, x = ${number(x)}: weights ${weights.map((w) => number(w)).join(", ")}; ` +
        `velocities ${u}, ${v}; mean ${brief(mean)}, variance ${brief(variance)}`,
    );
  });

  const play = animate(
    fig,
    (seconds) => {
      const [t, x] = [fig.get("time"), Float64Array.of(fig.get("place"))];
      const h = Math.min(end - t, seconds / DURATION);
      solver.step(strips.marginal.velocity, x, t, h);
      following = true;
      fig.set("place", Math.min(high, Math.max(low, x[0])));
      fig.set("time", Math.min(end, t + h));
      following = false;
      return t + h < end - 1e-9;
    },
    () => {
      // From the end it begins anew, where it was put by hand.
      if (fig.get("time") >= end) restore(origin);
      else if (moved) origin = ["time", "place"].map((name) => [name, fig.get(name)]);
      moved = false;
    },
  );

  /** Put traits back to what they were. */
  function restore(values) {
    for (const [name, value] of values) fig.set(name, value);
  }

  addPlayButton(fig, play, { play: "Follow the field" });
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: end, step: 0.01 });
  addSlider(fig, { label: "width at t = 1", trait: "sigma_min", min: 0, max: widest, step: 0.01 });
  addMenu(fig, {
    label: "density",
    trait: "shown",
    options: choices.map((key) => [key, key === "both" ? "mixture" : `${key} strip`]),
  });
  addToggle(fig, { label: "arrows of the field", trait: "arrows" });
  addButtons(fig, { label: "Reset", onClick: () => (play.pause(), restore(first)) });

  const put = (t, x) => {
    fig.set("time", Math.min(end, hundredth(t)));
    fig.set("place", hundredth(x));
  };
  const knob = (i) =>
    addHandle(fig, {
      axes: plane,
      label: `data point ${i + 1}`,
      lock: "y",
      at: () => [1, fig.get("points")[i]],
      move(_, x) {
        const moved = Math.max(-reach, Math.min(reach, hundredth(x)));
        fig.set("points", fig.get("points").map((old, k) => (k === i ? moved : old)));
      },
    });
  knob(0);
  knob(1);
  const place = addHandle(fig, {
    axes: plane,
    label: "the place looked at",
    color: COLORS.noise,
    step: 0.05,
    at: () => [fig.get("time"), fig.get("place")],
    move: put,
  });
  place.knob.style.zIndex = 1;

  // A mouse looks where it is; a finger drags the handle, or taps.
  fig.listen(fig.canvas, "pointermove", (event) => {
    const at = fig.place(event);
    const looks = event.pointerType === "mouse" && !play.playing && plane.contains(...at);
    const [t, x] = plane.locate(...at);
    hover = looks ? [Math.min(end, t), x] : null;
    fig.redraw();
  });
  fig.listen(fig.canvas, "pointerleave", () => {
    hover = null;
    fig.redraw();
  });
  fig.listen(fig.canvas, "click", (event) => {
    const at = fig.place(event);
    if (plane.contains(...at)) put(...plane.locate(...at));
  });
  fig.on(["time", "place"], () => {
    hover = null;
    moved ||= !following;
  });
  fig.on("arrows");
  fig.on(["points", "sigma_min"], take);
  fig.on("shown", paint);
  take();
}

/** The place of a track `[n 2]` at a time. */
function interpolate(track, t) {
  let k = 2;
  while (k < track.length - 2 && track[k] < t) k += 2;
  const share = (t - track[k - 2]) / (track[k] - track[k - 2]);
  return track[k - 1] + share * (track[k + 1] - track[k - 1]);
}

export default live("Two data points over time: lines to them cross, tracks of the one field do not", build);
