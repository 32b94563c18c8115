import { BridgedPairs, entropicPlan, followNoise } from "./bridges.js";
import { need } from "./checks.js";
import { COLORS, blend } from "./colors.js";
import { addButtons, addMenu, addSlider } from "./controls.js";
import { assign, squaredDistances } from "./couplings.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { addPlayButton, animateTime } from "./motion.js";
import { addPen } from "./pen.js";
import { Random } from "./rng.js";
import { follow } from "./solvers.js";
import { number } from "./words.js";

/** Seconds that the way from source to target takes when it is played. */
const DURATION = 4;

/** Places are kept to this. */
const hundredth = (v) => Math.round(100 * v) / 100;

/** The mass of each pair, `[n n]`. */
function planOf(coupling, cost, n, sigma) {
  if (coupling === "random") return cost.map(() => 1 / n ** 2);
  if (coupling === "entropic") return entropicPlan(cost, n, 2 * sigma ** 2);
  const column = assign(cost, n);
  return cost.map((_, at) => (column[Math.floor(at / n)] === at % n ? 1 / n : 0));
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { limit, each, ring, width, steps, couplings, pens, apart } = settings;
  const side = { x: [-limit, limit], y: [-limit, limit], equal: true, margin: [4, 38, 4, 4] };
  const panels = {
    ODE: fig.axes({ ...side, box: [0, 0, 0.5, 1] }),
    SDE: fig.axes({ ...side, box: [0.5, 0, 1, 1] }),
  };
  const ends = { source: "sources", target: "targets" };
  const drawn = (end) => fig.get(`drawn_${end}`);
  let [x0, x1, cost] = [];
  const ways = {};

  const within = (v) => typeof v === "number" && Math.abs(v) <= limit;
  const inside = (place) => place?.length === 2 && place.every(within);

  /** The points of clusters about three centres, or those of a drawing, again and again. */
  function cloud(end) {
    const [centres, points, most] = [fig.get(ends[end]), drawn(end), 3 * each];
    need(centres?.length === 3 && centres.every(inside), "a cluster has no place");
    need(points?.length <= most && points.every(inside), "a drawing leaves the plane");
    const nth = (k) => {
      if (points.length) return points[k % points.length];
      const [[x, y], angle] = [centres[Math.floor(k / each)], (2 * Math.PI * (k % each)) / each];
      return [x + ring * Math.cos(angle), y + ring * Math.sin(angle)];
    };
    return Float64Array.from(Array.from({ length: most }, (_, k) => nth(k)).flat());
  }

  /** The pen adds a point, unless it has hardly moved; the oldest give way. */
  function draw(...place) {
    const end = fig.get("pen");
    if (!(end in ends)) return;
    const [point, last] = [place.map(hundredth), drawn(end).at(-1)];
    if (last && Math.hypot(point[0] - last[0], point[1] - last[1]) < apart) return;
    fig.set(`drawn_${end}`, [...drawn(end), point].slice(-3 * each));
  }

  /** Clusters are there to be dragged while they are seen and the pen is away. */
  function arrange() {
    need(pens.includes(fig.get("pen")), `the pen cannot draw ${fig.get("pen")}`);
    const off = fig.get("pen") === "off";
    fig.canvas.classList.toggle("fm-active", !off);
    for (const { end, knob } of knobs) knob.style.display = off && !drawn(end).length ? "" : "none";
    clear.disabled = !Object.keys(ends).some((end) => drawn(end).length);
  }

  function restart() {
    const [coupling, sigma] = [fig.get("coupling"), fig.get("sigma")];
    need(coupling in couplings, `a coupling called ${coupling} is not known`);
    need(sigma >= 0.3 && sigma <= 1.5, "the noise is out of its range");
    [x0, x1] = [cloud("source"), cloud("target")];
    const costs = squaredDistances(x0, x1);
    const plan = planOf(coupling, costs, x0.length / 2, sigma);
    cost = costs.reduce((sum, c, at) => sum + c * plan[at], 0);
    const bridges = new BridgedPairs(x0, x1, plan, { sigma, width });
    ways.ODE = follow(bridges.drift(0), x0, { method: "midpoint", steps });
    const random = new Random(fig.get("seed"));
    ways.SDE = followNoise(bridges.drift(sigma ** 2 / 2), x0, { sigma, steps, random });
  }

  const moved = (kind) =>
    ways[kind][steps].reduce((sum, x, i) => sum + (x - x0[i]) ** 2, 0) / (x0.length / 2);

  function drawPanel(kind, time) {
    const [axes, path] = [panels[kind], ways[kind]];
    axes.title(kind, { dy: -27, bold: true });
    const words = `displacement² ${number(moved(kind))}`; // beside the other's on a phone
    axes.title(words, { dy: -9, size: 12, color: fig.theme.soft });
    fig.ctx.beginPath();
    for (let i = 0; i < x0.length; i += 2)
      path.forEach((x, k) => fig.ctx[k ? "lineTo" : "moveTo"](axes.px(x[i]), axes.py(x[i + 1])));
    axes.stroke({ width: 1, alpha: 0.8 });
    axes.points(x0, { color: COLORS.noise, radius: 2.2, alpha: 1 });
    axes.points(x1, { color: COLORS.data, radius: 2.2, alpha: 1 });
    const now = path[Math.round(time * steps)];
    axes.points(now, { color: blend(time), radius: 3.4, alpha: 1 });
  }

  fig.onDraw(() => {
    const time = fig.get("time");
    need(time >= 0 && time <= 1, "the time lies outside of 0 and 1");
    for (const kind of Object.keys(panels)) drawPanel(kind, time);
    const pen = fig.get("pen");
    const [pairs, ode, sde] = [cost, moved("ODE"), moved("SDE")].map((v) => number(v));
    fig.say(
      pen === "off"
        ? `mean squared length of the pairs ${pairs}; ` +
            `displacement of the ODE ${ode}, of the SDE ${sde}`
        : `Draw the ${pen} in a panel. Pairs ${pairs}, ODE ${ode}, SDE ${sde}`,
    );
    fig.describe(
      `ODE and SDE at time ${number(time)}, pairs ${couplings[fig.get("coupling")]}, ` +
        `noise ${number(fig.get("sigma"))}`,
    );
  });

  const knobs = Object.keys(ends).flatMap((end) =>
    [0, 1, 2].map((i) => {
      const { knob } = addHandle(fig, {
        axes: panels.ODE,
        label: `${end} cluster ${i + 1}`,
        color: end === "source" ? COLORS.noise : COLORS.data,
        at: () => fig.get(ends[end])[i],
        move: (...to) =>
          fig.set(
            ends[end],
            fig.get(ends[end]).map((old, k) => (k === i ? to.map(hundredth) : old)),
          ),
      });
      return { end, knob };
    }),
  );
  for (const axes of Object.values(panels)) addPen(fig, axes, draw);

  const play = animateTime(fig, DURATION);

  addMenu(fig, { label: "pairs", trait: "coupling", options: Object.entries(couplings) });
  addSlider(fig, { label: "noise σ", trait: "sigma", min: 0.3, max: 1.5, step: 0.05 });
  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.02 });
  addMenu(fig, { label: "pen", trait: "pen", options: pens });
  const [, clear] = addButtons(
    fig,
    { label: "New noise", onClick: () => fig.set("seed", fig.get("seed") + 1) },
    {
      label: "Clear",
      onClick: () => Object.keys(ends).forEach((end) => fig.set(`drawn_${end}`, [])),
    },
  );
  fig.on(["sources", "targets", "coupling", "sigma", "seed"], restart);
  fig.on(["drawn_source", "drawn_target"], () => {
    restart();
    arrange();
  });
  fig.on("pen", arrange);
  fig.on("time");
  restart();
  arrange();
}

export default live("A source and a target, bridged: the ODE left, the SDE right", build);
