import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addSlider } from "./controls.js";
import { live } from "./figure.js";
import { GaussianMixture } from "./mixture.js";
import { unpack } from "./packing.js";
import { condOT } from "./paths.js";
import { follow } from "./solvers.js";
import { TwoTimes } from "./two_times.js";
import { number } from "./words.js";

/** The root of the mean square difference of two sets of places. */
function distance(x, y) {
  return Math.sqrt(x.reduce((sum, value, i) => sum + (value - y[i]) ** 2, 0) / x.length);
}

/** Places on the horizontal and on the vertical, in turns, for a line. */
const zip = (x, y) => Array.from(x).flatMap((value, i) => [value, y[i]]);

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { noise: packed, ways: shown, fine, limit, gap } = fig.get("_settings");
  const noise = Float64Array.from(unpack(packed, "the noise"));
  const mixture = GaussianMixture.unpack(fig.get("_mixture"), condOT());
  const u = TwoTimes.unpack(fig.get("_network"));
  const side = [-limit, limit];
  const plane = fig.axes({
    ...{ x: [0, 1], y: side, margin: [44, 26, 12, 40] },
    ...{ box: [0, 0, 0.5, 1], narrowBox: [0, 0, 1, 0.5] },
  });
  const graph = fig.axes({
    ...{ x: side, y: side, margin: [44, 26, 12, 40] },
    ...{ box: [0.5, 0, 1, 1], narrowBox: [0, 0.5, 1, 1] },
  });
  let kept;

  function solve() {
    const [s, t, n] = ["s", "t", "jumps"].map((name) => fig.get(name));
    need(s >= 0 && t <= 1 && t - s > gap - 1e-9, "the two times are not in order");
    need(n >= 1 && n <= 8, "there are no jumps, or too many");
    const field = mixture.velocity;
    const start = follow(field, noise, { method: "rk4", steps: fine, t1: s }).at(-1);
    const times = Array.from({ length: n + 1 }, (_, k) => s + ((t - s) * k) / n);
    kept = {
      exact: follow(field, start, { method: "rk4", steps: fine, t0: s, t1: t }),
      jumps: u.jump(start, times),
      euler: follow(field, start, { steps: n, t0: s, t1: t }),
    };
    need(Number.isFinite(distance(kept.jumps.at(-1), start)), "the jumps left the numbers");
    const many = n === 1 ? "one jump" : `${n} jumps`;
    fig.describe(
      `Places at time ${number(t)} over places at time ${number(s)}: the exact map, ` +
        `${many} of a trained map, and as many steps of Euler's method`,
    );
  }

  /** The chosen ways of a path over time. */
  function drawWays(path, s, t, style, dots = 0) {
    for (const i of shown) {
      const xy = path.flatMap((x, k) => [s + ((t - s) * k) / (path.length - 1), x[i]]);
      plane.line(xy, style);
      if (dots) plane.points(xy, { color: style.color, radius: dots, alpha: 1 });
    }
  }

  const kinds = () => [
    ["exact", "exact map", fig.theme.exact, 4],
    ["euler", "Euler", COLORS.velocity, 1.8],
    ["jumps", "jumps", COLORS.learned, 2.4],
  ];

  fig.onDraw(() => {
    const [s, t, n] = ["s", "t", "jumps"].map((name) => fig.get(name));
    const ticks = { yticks: [-2, 0, 2], digits: 0 };
    plane.frame({ ...ticks, xticks: [0, 1], xlabel: "time" });
    plane.title("some ways", { dy: -12, size: 14 });
    graph.frame({ ...ticks, xticks: [-2, 0, 2], xlabel: "place at time s" });
    graph.title("place at time t", { dy: -12, size: 14 });
    for (const [name, , color, width] of kinds()) {
      const dots = name === "exact" ? 0 : 2.6;
      plane.clip(() => drawWays(kept[name], s, t, { color, width: width / 2 }, dots));
      graph.clip(() => graph.line(zip(kept.exact[0], kept[name].at(-1)), { color, width }));
    }
    kinds().forEach(([, words, color, width], i) => {
      const [x, y] = [graph.x[0] + 12 / graph.scaleX, graph.y[1] - (16 * i + 12) / graph.scaleY];
      graph.line([x, y, x + 18 / graph.scaleX, y], { color, width });
      graph.text(x, y, words, { dx: 26, align: "left" });
    });
    const [jumps, euler] = ["jumps", "euler"].map((name) =>
      number(distance(kept[name].at(-1), kept.exact.at(-1)), 3),
    );
    const many = n === 1 ? "one jump" : `${n} jumps`;
    fig.say(
      `From s = ${number(s)} to t = ${number(t)}, error of ${many} ${jumps}, ` +
        `of as many steps of Euler ${euler}`,
    );
  });

  // A slider that is pushed past the other time stops there.
  const addTime = (name, range, bound) => {
    const slider = addSlider(fig, {
      ...{ label: `time ${name}`, ...range, step: gap, value: fig.get(name) },
      onInput: (v) => {
        fig.set(name, bound(v));
        slider.show(fig.get(name));
      },
    });
    fig.on(name, () => slider.show(fig.get(name)));
  };
  addTime("s", { min: 0, max: 1 - gap }, (v) => Math.min(v, fig.get("t") - gap));
  addTime("t", { min: gap, max: 1 }, (v) => Math.max(v, fig.get("s") + gap));
  addSlider(fig, {
    ...{ label: "jumps", trait: "jumps", min: 1, max: 8, step: 1 },
    format: (v) => String(v),
  });
  fig.on(["s", "t", "jumps"], solve);
  solve();
}

export default live("Jumps of a trained flow map beside the exact one and Euler's method", build);
