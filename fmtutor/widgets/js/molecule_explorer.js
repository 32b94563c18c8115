import { CHAIN, centred, energy, torsion } from "./butane.js";
import { need } from "./checks.js";
import { blend } from "./colors.js";
import { addButtons, addMenu, addSlider, addToggle } from "./controls.js";
import { EGNN } from "./egnn.js";
import { live } from "./figure.js";
import { addPlayButton, animateTime } from "./motion.js";
import { unpack } from "./packing.js";
import { Random } from "./rng.js";
import { follow } from "./solvers.js";
import { addTurns, along, frame, turnByDragging } from "./turning.js";
import { number } from "./words.js";

/** Seconds that the way from noise to molecules takes when it is played. */
const DURATION = 6;
/** Radius of an atom as it is drawn, in ångström: less than a true one, so that bonds are seen. */
const ATOM = 0.4;
/** How far the eye is away, in ångström: what is near is drawn larger. */
const EYE = 14;
/** Powers of ten of the energies that are shown. */
const POWERS = [-0.4, 4.4];

/** The colour of an energy: that of data up to 3 kT, that of noise from 300 kT on. */
function shade(energyInKT) {
  const share = (Math.log10(Math.max(energyInKT, 1e-3)) - 0.5) / 2;
  return blend(1 - Math.min(1, Math.max(0, share)));
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { molecules, unit, constants, extent, most } = fig.get("_settings");
  const networks = Object.entries(fig.get("_networks"));
  const fields = new Map(networks.map(([name, packed]) => [name, EGNN.unpack(packed).forward]));
  const space = fig.axes({
    ...{ x: [-extent, extent], y: [-extent, extent], equal: true },
    ...{ box: [0, 0, 0.48, 1], narrowBox: [0, 0, 1, 0.5] },
  });
  const graph = fig.axes({
    ...{ x: [-180, 180], y: POWERS, margin: [62, 12, 14, 44] },
    ...{ box: [0.48, 0, 1, 1], narrowBox: [0, 0.5, 1, 1] },
  });
  const exact = judged(Float64Array.from(unpack(fig.get("_exact"), "the exact molecules")));
  let path;

  /** The energy and the torsion, in degrees, of each molecule. */
  function judged(x) {
    const rows = Array.from({ length: x.length / CHAIN }, (_, i) => i * CHAIN);
    return {
      energies: rows.map((at) => energy(x, at, constants)),
      torsions: rows.map((at) => (torsion(x, at) * 180) / Math.PI),
    };
  }

  function solve() {
    const [pairs, steps] = [fig.get("pairs"), fig.get("steps")];
    need(fields.has(pairs), `there is no network of ${pairs} pairs`);
    need(steps >= 1 && steps <= most, "there are no steps, or too many");
    const noise = new Random(fig.get("seed")).normals(new Float32Array(CHAIN * molecules));
    path = follow(fields.get(pairs), centred(Float64Array.from(noise)), { steps });
    for (const x of path) x.forEach((v, i) => (x[i] = unit * v));
    need(path.at(-1).every(Number.isFinite), "an atom left the numbers");
  }

  /** The positions at a time: between two steps on a straight line. */
  function now(time) {
    const steps = path.length - 1;
    const k = Math.min(steps - 1, Math.floor(time * steps));
    const rest = time * steps - k;
    return path[k].map((x, i) => x + rest * (path[k + 1][i] - x));
  }

  /** Where a point `[3]` is seen: to the right, up, how near, and how large things are there. */
  function seen(point, { right, up, ahead }) {
    const near = along(point, 0, ahead);
    const size = EYE / (EYE - near);
    return { xy: [size * along(point, 0, right), size * along(point, 0, up)], near, size };
  }

  /** The ways of the atoms of a molecule so far. */
  function drawWays(first, time, here, view) {
    const done = path.slice(0, Math.floor(time * (path.length - 1)) + 1);
    for (let at = first; at < first + CHAIN; at += 3) {
      const xy = [...done, here].flatMap((x) => seen(x.subarray(at, at + 3), view).xy);
      space.line(xy, { width: 1, alpha: 0.8 });
    }
  }

  /** An atom as something to draw. */
  function ball(point, color, view) {
    const { xy, near, size } = seen(point, view);
    return {
      near,
      draw() {
        space.points(xy, { color, radius: ATOM * size * space.scaleX, alpha: 1 });
        space.ring(...xy, ATOM * size, { color: fig.theme.soft, width: 1.2 });
      },
    };
  }

  /** A bond from the surface of one atom to that of the next one. */
  function stick(a, b, view) {
    const gap = b.map((v, k) => v - a[k]);
    const share = Math.min(0.5, (0.9 * ATOM) / Math.hypot(...gap));
    const [from, to] = [share, 1 - share].map((s) => seen(a.map((v, k) => v + s * gap[k]), view));
    return {
      near: (from.near + to.near) / 2,
      draw: () =>
        space.line([...from.xy, ...to.xy], { color: fig.theme.soft, width: 5 * from.size }),
    };
  }

  /** Draw a molecule, what is far first. */
  function drawMolecule(x, first, color, view) {
    const atoms = [0, 3, 6, 9].map((i) => x.subarray(first + i, first + i + 3));
    const parts = [
      ...atoms.map((atom) => ball(atom, color, view)),
      ...atoms.slice(1).map((atom, k) => stick(atoms[k], atom, view)),
    ];
    parts.sort((a, b) => a.near - b.near).forEach((part) => part.draw());
  }

  /** A molecule's place in the graph; what is off its edge stands at the edge. */
  const mark = (phi, kT) => [
    phi,
    Math.min(POWERS[1], Math.max(POWERS[0], Math.log10(Math.max(kT, 1e-9)))),
  ];

  function drawGraph({ energies, torsions }, chosen) {
    graph.frame({ xticks: [-180, -60, 60, 180], digits: 0, xlabel: "torsion in degrees" });
    for (let power = 0; power <= 4; power++)
      graph.text(graph.x[0], power, number(10 ** power, 0), {
        ...{ align: "right", dx: -6, size: 12, color: fig.theme.soft },
      });
    graph.title("energy in kT", { dy: 4, size: 13 });
    const dots = exact.torsions.flatMap((phi, i) => mark(phi, exact.energies[i]));
    graph.points(dots, { color: fig.theme.exact, radius: 1.6, alpha: 0.55 });
    torsions.forEach((phi, i) =>
      graph.points(mark(phi, energies[i]), { color: shade(energies[i]), radius: 3, alpha: 0.9 }),
    );
    const [x, y] = mark(torsions[chosen], energies[chosen]);
    graph.points([x, y], { color: fig.theme.ink, radius: 7, alpha: 1 });
    graph.points([x, y], { color: shade(energies[chosen]), radius: 5, alpha: 1 });
  }

  fig.onDraw(() => {
    const [time, molecule] = [fig.get("time"), fig.get("molecule")];
    need(time >= 0 && time <= 1, "the time lies outside of 0 and 1");
    need(molecule >= 1 && molecule <= molecules, "there is no such molecule");
    need(Number.isFinite(fig.get("longitude") + fig.get("latitude")), "the view has no place");
    const [x, view, first] = [now(time), frame(fig), (molecule - 1) * CHAIN];
    const found = judged(x);
    const own = found.energies[molecule - 1];
    if (fig.get("ways")) drawWays(first, time, x, view);
    drawMolecule(x, first, shade(own), view);
    drawGraph(found, molecule - 1);
    const [all, right] = [median(found.energies), median(exact.energies)];
    fig.say(
      `t = ${number(time)}: energy of molecule ${molecule} ${number(own, 1)} kT; ` +
        `median of all ${number(all, 1)} kT, of exact ones ${number(right, 1)} kT`,
    );
    fig.describe(
      `Four atoms in space at time ${number(time)}, seen from ` +
        `${number(fig.get("latitude"), 0)} degrees north and ` +
        `${number(fig.get("longitude"), 0)} degrees east, and the energies over the torsions of ` +
        `${molecules} such molecules`,
    );
  });

  /** A molecule is chosen by its dot. */
  fig.listen(fig.canvas, "pointerdown", (event) => {
    const at = fig.place(event);
    if (!graph.contains(...at)) return;
    const { energies, torsions } = judged(now(fig.get("time")));
    const away = torsions.map((phi, i) => {
      const [x, y] = mark(phi, energies[i]);
      return Math.hypot(graph.px(x) - at[0], graph.py(y) - at[1]);
    });
    fig.set("molecule", 1 + away.indexOf(Math.min(...away)));
  });

  turnByDragging(fig, space, 2);
  addPlayButton(fig, animateTime(fig, DURATION));
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.02 });
  addButtons(fig, { label: "New noise", onClick: () => fig.set("seed", fig.get("seed") + 1) });
  addMenu(fig, { label: "pairs", trait: "pairs", options: [...fields.keys()] });
  const whole = { step: 1, format: (v) => number(v, 0) };
  addSlider(fig, { label: "steps", trait: "steps", min: 1, max: most, ...whole });
  addSlider(fig, { label: "molecule", trait: "molecule", min: 1, max: molecules, ...whole });
  addTurns(fig);
  addToggle(fig, { label: "ways of the atoms", trait: "ways" });
  fig.on(["pairs", "steps", "seed"], solve);
  fig.on(["time", "molecule", "longitude", "latitude", "ways"]);
  solve();
}

export default live("A molecule in space that flows from noise, and the energies of many", build);
