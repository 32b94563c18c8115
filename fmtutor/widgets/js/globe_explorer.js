import { need } from "./checks.js";
import { COLORS, blend } from "./colors.js";
import { addButtons, addSlider, addToggle } from "./controls.js";
import { live } from "./figure.js";
import { addPlayButton, animateTime } from "./motion.js";
import { unpack } from "./packing.js";
import { Random } from "./rng.js";
import { SphereField, normalised } from "./sphere.js";
import { addTurns, along, frame, place, turnByDragging } from "./turning.js";
import { number } from "./words.js";

/** Seconds that the way from noise to data takes when it is played. */
const DURATION = 6;
/** Points of a circle that is drawn. */
const ROUND = 72;

/** Meridians and parallels, each a line `[n 3]`. */
function grid() {
  const around = Array.from({ length: ROUND + 1 }, (_, i) => (360 * i) / ROUND);
  const lines = [-60, -30, 0, 30, 60].map((a) => around.flatMap((b) => place(a, b)));
  for (let b = 0; b < 180; b += 30) lines.push(around.flatMap((a) => place(a, b)));
  return lines;
}

/** Points that share the sphere evenly, on a spiral. */
function spiral(n) {
  const out = [];
  for (let i = 0; i < n; i++) {
    const z = 1 - (2 * (i + 0.5)) / n;
    const turn = Math.PI * (1 + Math.sqrt(5)) * i;
    const r = Math.sqrt(1 - z * z);
    out.push(r * Math.cos(turn), r * Math.sin(turn), z);
  }
  return Float64Array.from(out);
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { particles, steps, radius } = fig.get("_settings");
  const data = Float64Array.from(unpack(fig.get("_places"), "the airports"));
  const field = new SphereField(normalised(data));
  const lines = grid();
  const spots = spiral(320);
  const arrows = new Float64Array(spots.length);
  const globe = fig.axes({ x: [-1.06, 1.06], y: [-1.06, 1.06], equal: true });
  let path;

  function restart() {
    const random = new Random(fig.get("seed"));
    const noise = Float64Array.from(random.normals(new Float32Array(3 * particles)));
    path = field.follow(normalised(noise), steps);
  }

  /** Where the particles are at a time. */
  function now(time) {
    const k = Math.min(steps - 1, Math.floor(time * steps));
    const rest = time * steps - k;
    return normalised(path[k].map((x, i) => x + rest * (path[k + 1][i] - x)));
  }

  /** The points `[n 2]` in front, or behind, and their numbers. */
  function seen(x, { right, up, ahead }, front = true) {
    const [xy, rows] = [[], []];
    for (let i = 0; i < x.length; i += 3)
      if (along(x, i, ahead) > 0 === front) {
        xy.push(along(x, i, right), along(x, i, up));
        rows.push(i);
      }
    return { xy, rows };
  }

  /** Put the parts of lines that face the reader into the current path. */
  function trace(lines, { right, up, ahead }) {
    fig.ctx.beginPath();
    for (const x of lines) {
      let open = false;
      for (let i = 0; i < x.length; i += 3) {
        const front = along(x, i, ahead) > 0;
        const xy = [globe.px(along(x, i, right)), globe.py(along(x, i, up))];
        if (front) fig.ctx[open ? "lineTo" : "moveTo"](...xy);
        open = front;
      }
    }
  }

  /** The ways of some particles up to a step. */
  function ways(last) {
    return Array.from({ length: Math.min(60, particles) }, (_, i) =>
      path.slice(0, last + 1).flatMap((x) => [...x.subarray(3 * i, 3 * i + 3)]),
    );
  }

  function drawField(time, view) {
    const t = Math.min(time, 1 - 1 / steps);
    field.velocity(spots, t, arrows);
    const { xy, rows } = seen(spots, view);
    const uv = rows.flatMap((i) => [along(arrows, i, view.right), along(arrows, i, view.up)]);
    globe.arrows(xy, uv, { scale: 0.12 * (1 - 0.8 * t), width: 1, alpha: 0.7 });
  }

  /** The median distance from the particles to the nearest airport, in kilometres. */
  function median(x) {
    const away = [];
    for (let i = 0; i < x.length; i += 3)
      away.push(field.angles[field.look(x[i], x[i + 1], x[i + 2])]);
    away.sort((a, b) => a - b);
    return radius * away[Math.floor((away.length - 1) / 2)];
  }

  fig.onDraw(() => {
    const time = fig.get("time");
    need(time >= 0 && time <= 1, "the time lies outside of 0 and 1");
    need(Number.isFinite(fig.get("longitude") + fig.get("latitude")), "the view has no place");
    const [x, view] = [now(time), frame(fig)];
    need(Number.isFinite(x[0]), "a point is not a number");
    globe.points(seen(x, view, false).xy, { color: blend(time), radius: 1.6, alpha: 0.12 });
    globe.ring(0, 0, 1, { color: fig.theme.soft, width: 1.2 });
    trace(lines, view);
    globe.stroke({ color: fig.theme.faint, width: 0.7 });
    if (fig.get("ways")) {
      trace(ways(Math.floor(time * steps)), view);
      globe.stroke({ width: 1, alpha: 0.8 });
    }
    if (fig.get("field")) drawField(time, view);
    globe.points(seen(data, view).xy, { color: COLORS.data, radius: 1.5 });
    globe.points(seen(x, view).xy, { color: blend(time), radius: 2.6, alpha: 0.9 });
    const km = number(median(x), 0);
    fig.say(`t = ${number(time)}: half of the particles are within ${km} km of an airport`);
    fig.describe(
      `a globe seen from ${number(fig.get("latitude"), 0)} degrees north and ` +
        `${number(fig.get("longitude"), 0)} degrees east at time ${number(time)}`,
    );
  });

  turnByDragging(fig, globe);
  const play = animateTime(fig, DURATION);
  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.02 });
  addButtons(fig, { label: "New noise", onClick: () => fig.set("seed", fig.get("seed") + 1) });
  addTurns(fig);
  addToggle(fig, { label: "ways of the particles", trait: "ways" });
  addToggle(fig, { label: "field", trait: "field" });
  fig.on("seed", restart);
  fig.on(["time", "longitude", "latitude", "ways", "field"]);
  restart();
}

export default live("Points on a globe that flow from everywhere to airports", build);
