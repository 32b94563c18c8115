import { need } from "./checks.js";
import { logSnr, shift } from "./clocks.js";
import { COLORS, blend } from "./colors.js";
import { addButtons, addMenu, addSlider, addToggle } from "./controls.js";
import { EmpiricalField } from "./empirical.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { addPlayButton, animate } from "./motion.js";
import { unpack } from "./packing.js";
import { condOT } from "./paths.js";
import { Draws, blockMeans, enlarged, shrunkNoise } from "./resolutions.js";
import { Random } from "./rng.js";
import { entropy } from "./softmax.js";
import { Tiles } from "./tiles.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 10;
/** How the area between two curves is tinted. */
const VEIL = 0.16;
/** What the legend says of each clock. */
const TITLES = { same: "same time", shifted: "shifted" };
/** Pixels between two pictures, above the first row, and above each row for its words. */
const [GAP, HEAD, WORDS] = [8, 16, 24];

/** The pictures at each resolution, the exact field of each, and its curves. */
class Shelf {
  constructor(packed, { side, pieces, end, seed }) {
    Object.assign(this, { side, path: condOT(), made: new Map(), curves: new Map() });
    this.pictures = Float64Array.from(unpack(packed, "the pictures"), (v) => v / 127.5 - 1);
    this.count = this.pictures.length / side ** 2;
    this.noise = this.draw(seed, this.pictures.length);
    this.stops = Array.from({ length: pieces + 1 }, (_, k) => (end * k) / pieces);
  }

  draw(seed, length = this.side ** 2) {
    return Float64Array.from(new Random(seed).normals(new Float32Array(length)));
  }

  /** The pictures of a kind ("large", "blocks" or "small") with their field; made once. */
  flow(kind, ratio) {
    const key = kind === "large" ? kind : `${kind} ${ratio}`;
    if (!this.made.has(key)) {
      const side = kind === "small" ? this.side / ratio : this.side;
      let data = this.pictures;
      if (kind !== "large") data = blockMeans(data, this.side, ratio);
      if (kind === "blocks") data = enlarged(data, this.side / ratio, ratio);
      const field = new EmpiricalField(this.path, data, side ** 2);
      const shrink = (noise) => (side < this.side ? shrunkNoise(noise, this.side, ratio) : noise);
      const draws = new Draws(data, shrink(this.noise), side ** 2);
      this.made.set(key, { key, side, data, field, draws, shrink });
    }
    return this.made.get(key);
  }

  /** How many pictures are possible on average at the stops, in bits; made once. */
  curve({ key, draws }, ratio) {
    const name = `${key}, times shifted by ${ratio}`;
    if (!this.curves.has(name)) {
      const bits = this.stops.map((t) => Math.log2(draws.possible(shift(t, ratio))));
      this.curves.set(name, bits);
    }
    return this.curves.get(name);
  }

  /** What a flow knows at its time of a picture that is mixed with noise. */
  look({ side, data, field, shrink }, t, picture, seed) {
    const noise = shrink(this.draw(seed));
    const x = noise.map((value, j) => t * data[picture * side ** 2 + j] + (1 - t) * value);
    const mean = field.posteriorMean(x, t).slice();
    return { x, mean, weights: field.weights, possible: Math.exp(entropy(field.weights)) };
  }
}

/** Where the pictures stand: each pixel covers a whole number of the screen's. */
function plan({ width, height }, side) {
  const narrow = width < 480;
  const grain = side / (window.devicePixelRatio || 1);
  const [across, down] = [narrow ? width : 0.6 * width, narrow ? Infinity : height];
  const space = Math.min((across - 2 * GAP) / 3, (down - HEAD - 2 * WORDS) / 2);
  const size = Math.max(1, Math.floor(space / grain)) * grain;
  const left = narrow ? Math.round((width - 3 * size - 2 * GAP) / 2) : 0;
  return { size, left, top: (row) => HEAD + WORDS + row * (size + WORDS) };
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { side, ratios, clocks, end, columns, ghost } = settings;
  const traits = ["time", "clock", "ratio", "detail", "garment", "seed"];
  const first = traits.map((name) => [name, fig.get(name)]);
  const stage = fig.axes({ x: [0, 1], y: [0, 1], margin: [0, 0, 0, 0] });
  const shelf = new Shelf(fig.get("_pictures"), settings);
  const top = Math.log2(shelf.count);
  const bill = fig.axes({
    ...{ x: [0, 1], y: [-0.12, top + 0.12], margin: [34, 40, 8, 40] },
    ...{ box: [0.61, 0, 1, 1], narrowBox: [0, 0.52, 1, 1] },
  });
  const tiles = new Map();
  let flows;
  let names;

  /** Take over what the reader chose, or refuse it. */
  function take() {
    const [t, clock, ratio, detail, garment, seed] = traits.map((name) => fig.get(name));
    need(Number.isFinite(t) && t >= 0 && t <= end, "there is no such time");
    need(clocks.includes(clock) && ratios.includes(ratio), "no clock or block of this kind");
    need(Number.isInteger(garment) && garment >= 1 && garment <= shelf.count, "no such garment");
    need(Number.isInteger(seed) && seed >= 0, "no such seed");
    flows = [shelf.flow(detail ? "large" : "blocks", ratio), shelf.flow("small", ratio)];
    names = flows.map((flow) => `${flow.side}×${flow.side}`);
    for (const flow of flows)
      if (!tiles.has(flow.side)) tiles.set(flow.side, new Tiles(fig, flow.side));
    fig.describe(
      `A garment and noise, mixed with ${names.join(" and with ")} pixels, at ` +
        `${clock === "same" ? "the same time" : "shifted times"}: what each flow expects, ` +
        "which garments are still possible, and how many on average, against time",
    );
  }

  const inks = () => [COLORS.velocity, fig.theme.exact];
  const times = () => {
    const t = fig.get("time");
    return [fig.get("clock") === "same" ? t : shift(t, fig.get("ratio")), t];
  };

  function write(words, left, y, style) {
    stage.text(0, 1, words, { dx: left, dy: y, size: 12, align: "left", ...style });
  }

  /** The mixture, the expected picture and the wall of garments of a flow. */
  function drawRow({ size, left, top: topOf }, row, { x, mean, weights, possible }, time) {
    const [flow, ink, y] = [flows[row], inks()[row], topOf(row)];
    const tile = tiles.get(flow.side);
    const lefts = [0, 1, 2].map((column) => left + column * (size + GAP));
    const { ctx } = fig;
    ctx.fillStyle = ink;
    ctx.fillRect(lefts[0], y - 12, 14, 4);
    write(`${names[row]}, t = ${number(time)}`, lefts[0] + 20, y - 10, { bold: true });
    const style = { align: "right", bold: true };
    write(`${number(possible, 1)} of ${shelf.count}`, lefts[2] + size, y - 10, style);
    tile.draw(x, 0, lefts[0], y, size, blend(time));
    tile.draw(mean, 0, lefts[1], y, size, ink);
    const most = Math.max(...weights);
    const cell = size / columns;
    weights.forEach((w, i) => {
      const place = [lefts[2] + (i % columns) * cell, y + Math.floor(i / columns) * cell];
      const alpha = ghost + (1 - ghost) * Math.sqrt(w / most);
      tile.draw(flow.data, i * flow.side ** 2, ...place, cell, ink, alpha);
      if (i + 1 !== fig.get("garment")) return;
      ctx.strokeStyle = COLORS.data;
      ctx.lineWidth = 2;
      ctx.strokeRect(place[0], place[1], cell, cell);
    });
  }

  /** How many garments each flow leaves possible on average, against the time of the small one. */
  function drawBill() {
    const [ratio, shown] = [fig.get("ratio"), fig.get("clock")];
    const [green, ink] = inks();
    const soft = { color: fig.theme.soft, size: 12 };
    bill.frame({ xticks: [0, 0.2, 0.4, 0.6, 0.8, 1], xlabel: `time t of the ${names[1]} flow` });
    for (let k = 0; k <= top; k++)
      bill.text(0, k, String(2 ** k), { dx: -6, align: "right", ...soft });
    bill.title("garments still possible, on average", { dy: -28 });
    const trace = (bits) => bits.map((value, k) => [shelf.stops[k], value]);
    const curves = Object.fromEntries(
      clocks.map((clock) => [clock, trace(shelf.curve(flows[0], clock === "same" ? 1 : ratio))]),
    );
    const small = trace(shelf.curve(flows[1], 1));
    // Between the curves: there and back.
    const between = [...curves[shown], ...[...small].reverse()].flat();
    bill.area(between, { base: top, color: green, alpha: VEIL });
    const t = fig.get("time");
    bill.line([t, bill.y[0], t, bill.y[1]], { color: fig.theme.faint, dash: [3, 4] });
    const style = (clock) =>
      clock === shown ? { color: green, width: 3.5 } : { color: green, width: 1.6, dash: [5, 4] };
    const lines = clocks.map((clock) => [TITLES[clock], curves[clock], style(clock)]);
    lines.push([names[1], small, { color: ink, width: 2.2 }]);
    lines.forEach(([words, points, look], i) => {
      bill.line(points.flat(), look);
      const { left, right, y } = entry(i);
      bill.line([left, y, right, y], look);
      const text = i < clocks.length ? `${names[0]}, ${words}` : words;
      bill.text(right, y, text, { dx: 6, align: "left", size: 12 });
    });
    times().forEach((time, row) => {
      const at = [t, Math.log2(flows[row].draws.possible(time))];
      bill.points(at, { color: inks()[row], radius: 4.5, alpha: 1 });
    });
    if (shown === "shifted" && !fig.get("detail")) return; // the curves are one
    const { left, right, y } = entry(lines.length);
    const [low, high] = [y - 5 / bill.scaleY, y + 5 / bill.scaleY];
    bill.area([left, high, right, high], { base: low, color: green, alpha: 2 * VEIL });
    const what = shown === "same" ? `ahead of ${names[1]}` : "finer than a block";
    bill.text(right, y, what, { dx: 6, align: "left", size: 12 });
  }

  /** Where an entry of the legend has its mark. */
  function entry(i) {
    const x = bill.x[0] + 0.38 * (bill.x[1] - bill.x[0]);
    return { left: x, right: x + 22 / bill.scaleX, y: top - (18 * i) / bill.scaleY };
  }

  fig.onDraw(() => {
    const places = plan(fig, side);
    const [garment, seed] = [fig.get("garment") - 1, fig.get("seed")];
    ["mixture xₜ", "expected E[x₁|xₜ]", "still possible"].forEach((words, column) =>
      write(words, places.left + column * (places.size + GAP), 7, { color: fig.theme.soft }),
    );
    const now = times();
    const found = now.map((t, row) => {
      const moment = shelf.look(flows[row], t, garment, seed);
      need(Number.isFinite(moment.possible), "the flow left the numbers");
      drawRow(places, row, moment, t);
      return number(moment.possible);
    });
    drawBill();
    const snr = now.map((t, row) => {
      const value = logSnr(shelf.path, t) + (row ? 0 : 2 * Math.log(fig.get("ratio")));
      return Number.isFinite(value) ? number(value) : "−∞";
    });
    const at = (row) => `${names[row]}, t\u00a0=\u00a0${number(now[row], 3)}: ${found[row]}`;
    fig.say(`${at(0)} possible; ${at(1)}; block log-SNR ${snr.join(", ")}`);
  });

  /** The garment at a place of the stage, from 1 on; 0 where there is none. */
  function garmentAt(event) {
    const { size, left, top: topOf } = plan(fig, side);
    const [x, y] = fig.place(event);
    const column = Math.floor(((x - left - 2 * (size + GAP)) * columns) / size);
    for (const row of [0, 1]) {
      const line = Math.floor(((y - topOf(row)) * columns) / size);
      const found = line * columns + column + 1;
      if (column >= 0 && column < columns && line >= 0 && line < columns && found <= shelf.count)
        return found;
    }
    return 0;
  }

  fig.listen(fig.canvas, "click", (event) => {
    const found = garmentAt(event);
    if (found) fig.set("garment", found);
  });
  fig.listen(fig.canvas, "pointermove", (event) => {
    fig.canvas.style.cursor = garmentAt(event) ? "pointer" : "";
  });

  const run = animate(
    fig,
    (seconds) => {
      fig.set("time", Math.min(end, fig.get("time") + seconds / DURATION));
      return fig.get("time") < end;
    },
    () => fig.get("time") >= end && fig.set("time", 0),
  );

  addPlayButton(fig, run, { play: "Let time run" });
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: end, step: 0.01 });
  addMenu(fig, {
    label: `${side}×${side} at`,
    trait: "clock",
    options: [
      ["same", "the same time"],
      ["shifted", "shifted time"],
    ],
  });
  const menu = addMenu(fig, {
    label: "small picture",
    options: ratios.map((ratio) => [String(ratio), `${side / ratio}×${side / ratio}`]),
    value: String(fig.get("ratio")),
    onInput: (ratio) => fig.set("ratio", Number(ratio)),
  });
  addSlider(fig, {
    ...{ label: "garment", trait: "garment", min: 1, max: shelf.count, step: 1 },
    format: (v) => String(v),
  });
  addToggle(fig, { label: "detail within blocks", trait: "detail" });
  addButtons(
    fig,
    { label: "New noise", onClick: () => fig.set("seed", fig.get("seed") + 1) },
    {
      label: "Reset",
      onClick() {
        run.pause();
        for (const [name, value] of first) fig.set(name, value);
      },
    },
  );
  addHandle(fig, {
    axes: bill,
    label: "time on the curves",
    color: COLORS.text,
    step: 0.02,
    lock: "x",
    at: () => [fig.get("time"), 0],
    move: (t) => fig.set("time", Math.min(end, Math.round(100 * t) / 100)),
  });
  fig.on(traits, take);
  fig.on("ratio", (ratio) => menu.show(String(ratio)));
  take();
}

export default live("A garment at two resolutions, and when each flow makes it out", build);
