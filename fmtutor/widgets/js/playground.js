import { readAddress, writeAddress } from "./address.js";
import { need } from "./checks.js";
import { COLORS, blend } from "./colors.js";
import { addButtons, addMenu, addSlider } from "./controls.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { ROUTES, serveLearner } from "./learner.js";
import { addPlayButton, animate } from "./motion.js";
import { unpack } from "./packing.js";
import { addPen } from "./pen.js";
import { Random } from "./rng.js";
import { number } from "./words.js";
import { spawn } from "./worker.js";

const PAIRINGS = ["independent", "optimal"];
const METHODS = ["euler", "heun"];
const DRAWING = "a drawing";
/** Milliseconds of training between two answers of the worker. */
const SLICE = 30;
/** A speed of one is this share of half the panel's side. */
const SCALE = 0.04;

/** What of the settings an address may hold: the trait of each key, and how a value is read. */
function shareable(fig) {
  const { widths } = fig.get("_settings");
  const among = (values) => (text) => values.find((value) => String(value) === text);
  const within = (low, high) => (text) => {
    const value = text.trim() === "" ? NaN : Number(text);
    return value >= low && value <= high ? value : undefined;
  };
  const whole = (text) => (/^\d+$/.test(text) ? within(1, 100)(text) : undefined);
  return {
    data: ["dataset", among(Object.keys(fig.get("_data")))],
    path: ["path", among(Object.keys(ROUTES))],
    coupling: ["coupling", among(PAIRINGS)],
    width: ["width", among(widths)],
    rate: ["learning_rate", within(1e-4, 0.03)],
    solver: ["method", among(METHODS)],
    steps: ["steps", whole],
    time: ["time", within(0, 0.95)],
  };
}

/** A round number not below n, for the end of an axis. */
function roundUp(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return power * [1, 2, 5, 10].find((digit) => digit * power >= n);
}

/** Words with a dot of their colour, in a row at the foot of a rectangle. */
function legend(axes, items) {
  const { ctx, theme } = axes.figure;
  ctx.font = `13px ${theme.font}`;
  const widths = items.map(([words]) => ctx.measureText(words).width + 32);
  let x = axes.left + (axes.width - widths.reduce((a, b) => a + b, -16)) / 2;
  const y = axes.top + axes.height - 8;
  items.forEach(([words, color], i) => {
    ctx.fillStyle = color;
    ctx.beginPath();
    ctx.arc(x + 5, y, 4, 0, 2 * Math.PI);
    ctx.fill();
    axes.text(0, 0, words, { align: "left", dx: x + 14 - axes.px(0), dy: y - axes.py(0) });
    x += widths[i];
  });
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { limit, last, most } = settings;
  need(settings.samples > 0 && settings.batch > 0, "the settings are not what they should be");
  need(fig.get("steps") >= 1 && fig.get("steps") <= 100, "the solver's steps are out of range");
  const square = { x: [-limit, limit], y: [-limit, limit], equal: true };
  const plane = fig.axes({ ...square, box: [0, 0, 0.6, 1], narrowBox: [0, 0, 1, 0.66] });
  const right = { box: [0.6, 0, 1, 0.6], narrowBox: [0, 0.66, 0.5, 1], margin: [6, 18, 6, 18] };
  const fields = fig.axes({ ...square, ...right });
  const lower = { box: [0.62, 0.6, 1, 1], narrowBox: [0.52, 0.66, 1, 1] };
  const chart = fig.axes({ x: [0, 200], y: [0, 1], ...lower, margin: [44, 8, 20, 38] });

  const sets = {};
  for (const [name, { train, held }] of Object.entries(fig.get("_data")))
    sets[name] = { data: unpack(train, name), held: unpack(held, name) };
  const worker = spawn(fig.model, serveLearner);
  fig.undo.push(() => worker.terminate());
  fig.awaits = () => Object.values(waiting).some((answers) => answers > 0);
  fig.listen(worker, "error", (event) => need(false, `the worker stopped: ${event.message}`));

  const losses = new Float32Array(last + 2000);
  let points; // {data, held}
  let run = 0; // answers to an earlier run are not heard
  let waiting = {}; // how many answers of each kind are on their way
  let stale = {}; // what should be asked again
  let seen = {}; // the newest answers: floor, best, samples, distance, fields
  let count = 0;
  let recent = []; // [time, count] over the last second
  let asked = 0; // when the samples were last asked for
  const keys = shareable(fig);
  let notice = readAddress(fig, keys);
  let pen = [0, 0];
  const scatterAround = new Random(settings.seed + 5);

  const drawing = () => fig.get("dataset") === DRAWING;
  const empty = () => points.data.length === 0;

  function ask(kind, body) {
    waiting[kind] = (waiting[kind] ?? 0) + 1;
    worker.postMessage({ kind, run, body });
  }

  function choosePoints() {
    const flat = Float32Array.from(fig.get("drawn").flat());
    need(flat.every((v) => Math.abs(v) <= limit), "the drawing leaves the plane");
    points = drawing() ? { data: flat, held: flat } : sets[fig.get("dataset")];
    need(points, `there is no data set called ${fig.get("dataset")}`);
    fig.describe(`A model that learns to turn noise into ${fig.get("dataset")}`);
    fig.canvas.classList.toggle("fm-active", drawing());
    handle.knob.style.display = drawing() ? "" : "none";
    for (const button of drawButtons) button.disabled = !drawing();
  }

  /** Forget what was learned and begin anew. */
  function begin() {
    choosePoints();
    run += 1;
    [waiting, seen, count, recent] = [{}, {}, 0, []];
    if (empty()) return loop.pause();
    const [width, path] = [fig.get("width"), fig.get("path")];
    const optimal = fig.get("coupling") === "optimal";
    ask("begin", { settings, width, path, optimal, ...points });
    stale = { measure: true, samples: true, fields: true };
  }

  /** The drawing has changed: go on from the weights there are. */
  function redrawn() {
    if (!drawing()) return;
    const before = points;
    if (!fig.get("drawn").length || !before.data.length) return begin();
    choosePoints();
    ask("change", points);
    stale = { measure: true, samples: true, fields: true };
  }

  const answers = {
    begin() {},
    change() {},
    fault: ({ reason }) => need(false, reason),
    measure: (answer) => Object.assign(seen, answer),
    sample: (answer) => Object.assign(seen, answer),
    look: (answer) => (seen.fields = answer),
    train({ losses: fresh }) {
      for (const loss of fresh) if (count < losses.length) losses[count++] = loss;
      recent.push([performance.now(), count]);
      while (recent.length > 2 && recent[0][0] < performance.now() - 1000) recent.shift();
      if (!loop.playing) stale.samples = stale.fields = true;
      if (fresh.every(Number.isFinite)) return;
      notice = "The loss is not a number any more: lower the learning rate and reset.";
      loop.pause();
    },
  };
  fig.listen(worker, "message", ({ data: { kind, run: of, answer } }) => {
    if (of !== run) return;
    waiting[kind] -= 1;
    answers[kind](answer);
    fig.redraw();
  });

  /** Ask for what is out of date, one question of a kind at a time. */
  function refresh() {
    const questions = {
      measure: ["measure", {}],
      fields: ["look", { time: fig.get("time") }],
      samples: ["sample", { method: fig.get("method"), steps: fig.get("steps") }],
    };
    for (const [what, [kind, body]] of Object.entries(questions)) {
      if (!stale[what] || waiting[kind] || empty()) continue;
      stale[what] = false;
      ask(kind, body);
    }
  }

  const loop = animate(
    fig,
    () => {
      if (empty() || count >= last) return false;
      // Two slices on their way keep the worker busy. Out of view no frame comes, and it rests.
      while ((waiting.train ?? 0) < 2)
        ask("train", { lr: fig.get("learning_rate"), budget: SLICE, most: 200 });
      const now = performance.now();
      if (now - asked > Math.max(700, 5 * (seen.cost ?? 0))) {
        stale.samples = stale.fields = true;
        asked = now;
      }
    },
    () => {
      notice = empty() ? "Draw some points first." : "";
      recent = [];
    },
  );

  /** Points around a place, as many as fit; the next frame shows them. */
  function drop(x, y, howMany, spread) {
    const drawn = [...fig.get("drawn")];
    const keep = (v) => Math.min(limit, Math.max(-limit, v + spread * scatterAround.normal()));
    for (let i = 0; i < howMany && drawn.length < most; i++) drawn.push([keep(x), keep(y)]);
    notice = drawn.length < most ? "" : `A drawing holds ${most} points.`;
    fig.set("drawn", drawn);
  }

  /** The mean of the losses from `from` to `to`. */
  function meanLoss(from, to) {
    return losses.subarray(from, to).reduce((sum, v) => sum + v, 0) / (to - from);
  }

  function drawChart() {
    const { floor = 0 } = seen;
    const each = Math.max(1, Math.ceil(count / 150));
    const curve = [];
    for (let k = 0; k + each <= count; k += each) curve.push(k + each / 2, meanLoss(k, k + each));
    const heights = curve.filter((_, i) => i % 2);
    const top = Math.max(1, Math.ceil(2.5 * floor), Math.ceil(Math.max(0, ...heights)));
    chart.x = [0, roundUp(Math.max(200, count))];
    chart.y = [0, top];
    chart.layout();
    const yticks = top % 2 ? [0, top] : [0, top / 2, top];
    const xticks = [0, chart.x[1]];
    chart.frame({ xticks, yticks, xlabel: "step", ylabel: "loss", digits: 0 });
    if (curve.length) chart.line(curve, { color: COLORS.learned, width: 2 });
    if (!seen.floor && seen.floor !== 0) return;
    chart.line([0, floor, chart.x[1], floor], { color: fig.theme.exact, dash: [5, 4] });
    const of = fig.get("coupling") === "optimal" ? "floor of independent pairs" : "floor";
    chart.text(chart.x[1], floor, of, { align: "right", dy: 10, color: fig.theme.soft, size: 12 });
  }

  function drawFields() {
    const { time, half, dots, places, learned, exact } = seen.fields;
    fields.x = fields.y = [-1.15 * half, 1.15 * half];
    fields.layout();
    fields.points(dots, { color: blend(time), radius: 1.3, alpha: 0.35 });
    const style = { scale: SCALE * half, width: 1.3 };
    fields.arrows(places, exact, { color: fig.theme.exact, alpha: 0.8, ...style });
    fields.arrows(places, learned, { color: COLORS.learned, alpha: 1, ...style });
    fields.title(`fields at t = ${number(time)}`, { dy: -8 });
    const of = fig.get("coupling") === "optimal" ? "exact (independent)" : "exact";
    const names = [["learned", COLORS.learned], [of, fig.theme.exact]];
    legend({ __proto__: fields, height: fields.height + 18 }, names);
  }

  function words() {
    if (notice) return notice;
    if (empty()) return "Draw in the plane, or move the pen and drop points.";
    if (seen.floor === undefined || seen.distance === undefined) return "";
    const span = recent.length > 1 && loop.playing ? recent.at(-1)[0] - recent[0][0] : 0;
    const rate = span ? `, ${number((1e3 * (count - recent[0][1])) / span, 0)}/s` : "";
    const loss = count ? `loss ${number(meanLoss(Math.max(0, count - 100), count))}, ` : "";
    const floor = fig.get("coupling") === "optimal" ? "independent floor" : "floor";
    const held = drawing() ? "to the drawing" : `(data itself ${number(seen.best, 3)})`;
    return (
      `step ${count}${rate}: ${loss}${floor} ${number(seen.floor)}, ` +
      `energy distance ${number(seen.distance, 3)} ${held}`
    );
  }

  fig.onDraw(() => {
    refresh();
    plane.points(points.data, { color: COLORS.data, radius: 1.7, alpha: 0.55 });
    if (seen.samples) plane.points(seen.samples, { color: COLORS.learned, radius: 2, alpha: 0.85 });
    if (empty()) plane.text(0, 0.7, "Draw here", { color: fig.theme.soft, size: 16 });
    legend(plane, [["data", COLORS.data], ["samples of the model", COLORS.learned]]);
    if (seen.fields && !empty()) drawFields();
    drawChart();
    fig.say(words());
  });

  addPlayButton(fig, loop, { play: "Train", pause: "Pause" });
  const step = () => {
    loop.pause();
    notice = empty() ? "Draw some points first." : "";
    if (!empty() && count < last)
      ask("train", { lr: fig.get("learning_rate"), budget: 0, most: 1 });
  };
  const reset = () => {
    loop.pause();
    notice = "";
    begin();
  };
  addButtons(fig, { label: "Step", onClick: step }, { label: "Reset", onClick: reset });
  addMenu(fig, { label: "data", trait: "dataset", options: [...Object.keys(sets), DRAWING] });
  addMenu(fig, { label: "path", trait: "path", options: Object.keys(ROUTES) });
  addMenu(fig, { label: "coupling", trait: "coupling", options: PAIRINGS });
  const width = addMenu(fig, {
    label: "width",
    options: settings.widths.map(String),
    value: String(fig.get("width")),
    onInput: (v) => fig.set("width", Number(v)),
  });
  const rateWords = (v) => String(Number((10 ** v).toPrecision(2)));
  const rate = addSlider(fig, {
    label: "learning rate",
    ...{ min: -4, max: -1.5, step: 0.1, format: rateWords },
    value: Math.log10(fig.get("learning_rate")),
    onInput: (v) => fig.set("learning_rate", Math.min(0.03, Number((10 ** v).toPrecision(2)))),
  });
  addMenu(fig, { label: "solver", trait: "method", options: METHODS });
  const range = { min: 1, max: 100, step: 1, format: (v) => String(v) };
  addSlider(fig, { label: "solver steps", trait: "steps", ...range });
  addSlider(fig, { label: "fields at t", trait: "time", min: 0, max: 0.95, step: 0.05 });
  const drawButtons = addButtons(
    fig,
    { label: "Drop points", onClick: () => drop(...pen, 25, 0.25) },
    { label: "Clear", onClick: () => fig.set("drawn", []) },
  );
  addButtons(fig, { label: "Share settings", onClick: () => (notice = writeAddress(fig, keys)) });
  for (const button of fig.controls.querySelectorAll("button"))
    fig.listen(button, "click", () => fig.redraw());

  const move = (x, y) => (pen = [x, y]);
  const handle = addHandle(fig, { axes: plane, label: "pen", at: () => pen, move, step: 0.2 });
  addPen(fig, plane, (x, y) => drawing() && drop(x, y, 3, 0.1));
  fig.listen(window, "hashchange", () => {
    notice = readAddress(fig, keys);
    fig.redraw();
  });

  const renew = () => {
    notice = "";
    begin();
  };
  fig.on(["dataset", "path", "coupling", "width"], renew);
  fig.on("width", (v) => width.show(String(v)));
  fig.on("learning_rate", (v) => rate.show(Math.log10(v)));
  fig.on("drawn", redrawn);
  fig.on(["method", "steps"], () => (stale.samples = true));
  fig.on("time", () => (stale.fields = true));
  begin();
}

export default live("A model that learns to turn noise into data", build);
