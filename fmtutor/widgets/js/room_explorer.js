import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addButtons, addMenu, addSlider } from "./controls.js";
import { live } from "./figure.js";
import { addHandle } from "./handles.js";
import { addPlayButton, animate } from "./motion.js";
import { unpack } from "./packing.js";
import { Planner, Room, followPlans } from "./room.js";
import { Random } from "./rng.js";
import { number } from "./words.js";

/** Steps that pass in a second when it is played: as in the room. */
const PACE = 25;

/** So many of something, in words. */
const count = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { limit, ticks, seeds } = settings;
  const room = new Room(settings.room);
  const { half, block, goal, near, radius } = room;
  const packed = Object.entries(fig.get("_learned"));
  need(packed.length, "the networks have not arrived");
  const learned = Object.fromEntries(packed.map(([name, p]) => [name, unpack(p, name)]));
  const planner = new Planner(learned, settings);
  const extent = [-half - 0.05, half + 0.05];
  const plane = fig.axes({
    ...{ x: extent, y: extent, equal: true },
    ...{ box: [0, 0, 0.68, 1], narrowBox: [0, 0, 1, 0.8] },
  });
  const legend = fig.axes({
    ...{ x: [0, 1], y: [0, 1], margin: [8, 10, 6, 4] },
    ...{ box: [0.68, 0, 1, 1], narrowBox: [0, 0.8, 1, 1] },
  });
  const names = ["start", "policy", "commitment", "evaluations", "seed"];
  let state;
  let run;
  let drawn;

  /** Plans for a ball at the k-th decision, the one that is followed first. */
  function plans(ball, k, n) {
    if (state.policy === "average") return planner.mean(ball);
    const noise = new Random(seeds * state.seed + k).normals(new Float64Array(n * planner.dim));
    // Both sides start from numbers of single precision.
    return planner.draw(ball, noise.map(Math.fround), state.evaluations);
  }

  function solve() {
    state = Object.fromEntries(names.map((name) => [name, fig.get(name)]));
    const { start, policy, commitment, evaluations, seed } = state;
    need(start.length === 2 && start.every(Number.isFinite), "the ball has no start");
    need(!room.keepOut([...start, 0, 0]), "the ball starts inside of a wall or the block");
    need(settings.policies.includes(policy), `a policy called ${policy} is not known`);
    need(settings.commitments.includes(commitment), "so many positions are not followed");
    need(settings.evaluations.includes(evaluations), "there are no evaluations, or too many");
    need(Number.isInteger(seed) && seed >= 0, "the seed is no whole number");
    const act = (ball, k) => plans(ball, k, 1);
    run = followPlans(act, room, [...start, 0, 0], { commitment, limit, ticks });
    drawn = undefined;
    slider.input.max = Math.max(1, run.steps);
    slider.show(now());
    menu.show(String(commitment));
    effort.show(String(evaluations));
    effort.input.disabled = policy === "average";
    const whose = policy === "average" ? "the one plan of the regression" : "plans of the flow";
    fig.describe(
      `A room from above with a block in the middle and a goal behind it: ${whose} from where the ` +
        "ball is, and its way",
    );
  }

  /** The step shown: the trait's, or the last one. */
  function now() {
    const step = fig.get("step");
    need(step >= 0 && step <= limit, "there is no such step");
    return Math.min(step, run.steps);
  }

  /** The plans that were drawn at the last decision up to a step, and where. */
  function bundle(step) {
    const { commitment } = state;
    const k = Math.min(Math.floor(step / commitment), run.decisions - 1);
    if (drawn?.k === k) return drawn;
    const ball = run.states[k * commitment];
    const moves = plans(ball, k, settings.plans);
    const lines = [];
    for (let at = 0; at < moves.length; at += planner.dim)
      lines.push([
        ...ball.slice(0, 2),
        ...moves.subarray(at, at + planner.dim).map((move, i) => ball[i % 2] + move),
      ]);
    drawn = { k, lines };
    return drawn;
  }

  const rectangle = (x, y) => [-x, -y, x, -y, x, y, -x, y];
  const flat = (states) => states.flatMap(([x, y]) => [x, y]);

  function drawRoom(style) {
    const { ways } = learned;
    const size = 2 * settings.points;
    plane.area([-block[0], block[1], block[0], block[1]], {
      ...{ base: -block[1], color: COLORS.text, alpha: 0.4 },
    });
    plane.ring(...goal, near, { color: COLORS.data, fill: 0.3, width: 1 });
    for (let at = 0; at < ways.length; at += size)
      plane.line(ways.subarray(at, at + size), style.shown);
  }

  const styles = () => ({
    shown: { color: COLORS.data, width: 1.2, alpha: 0.45 },
    other: { color: COLORS.learned, width: 1.2, alpha: 0.7 },
    followed: { color: COLORS.learned, width: 4 },
    way: { color: fig.theme.soft, width: 2.4 },
    ahead: { color: fig.theme.soft, width: 1.4, dash: [3, 5] },
  });

  /** The ball's place, between two steps while it is played. */
  function place(step) {
    const k = Math.min(Math.floor(step), run.states.length - 1);
    const [from, to] = [run.states[k], run.states[Math.min(k + 1, run.states.length - 1)]];
    return [0, 1].map((i) => from[i] + (step - k) * (to[i] - from[i]));
  }

  function drawWay(step, style) {
    const { lines } = bundle(step);
    const [followed, ...others] = lines;
    for (const line of others) plane.line(line, style.other);
    plane.line(followed, { ...style.followed, width: 1.6 });
    plane.line(followed.slice(0, 2 * state.commitment + 2), style.followed);
    const at = place(step);
    const k = Math.floor(step);
    plane.line([...at, ...flat(run.states.slice(k + 1))], style.ahead);
    plane.line([...flat(run.states.slice(0, k + 1)), ...at], style.way);
    const looks = run.states.slice(0, run.steps).filter((_, i) => i % state.commitment === 0);
    plane.points(flat(looks), { color: fig.theme.soft, radius: 3.2, alpha: 1 });
    const touched = run.states.slice(1).filter((_, i) => run.touching[i]);
    for (const [x, y] of touched) plane.text(x, y, "×", { size: 17, dy: 1 });
    plane.points(at, { color: fig.theme.ink, radius: radius * plane.scaleX, alpha: 1 });
  }

  /** What each line means: in a column, on a narrow screen in two. */
  function drawLegend(style) {
    const many = state.policy === "flow";
    const entries = [
      ["demonstrations", style.shown],
      ...(many ? [["plans drawn here", style.other]] : []),
      [many ? "the one followed" : "the one plan", style.followed],
      ["way of the ball", style.way],
      ["its way to come", style.ahead],
      ["looks again", null],
      ["touches", null],
    ];
    const columns = legend.width > 1.5 * legend.height ? 2 : 1;
    const rows = Math.ceil(entries.length / columns);
    entries.forEach(([words, line], i) => {
      const x = Math.floor(i / rows) / columns;
      const y = 1 - ((i % rows) * (columns === 2 ? 19 : 26) + 6) / legend.scaleY;
      const middle = x + 12 / legend.scaleX;
      if (line) legend.line([x, y, x + 24 / legend.scaleX, y], line);
      else if (words === "touches") legend.text(middle, y, "×", { size: 17, dy: 1 });
      else legend.points([middle, y], { color: fig.theme.soft, radius: 3.2, alpha: 1 });
      legend.text(x, y, words, { dx: 32, align: "left" });
    });
  }

  /** On which side the ball passed the block; nothing if it did not. */
  function side() {
    const [first] = run.states;
    const across = run.states.find(([, y]) => y > 0 !== first[1] > 0);
    return across ? (across[0] > 0 ? "right" : "left") : "";
  }

  function tell(step) {
    const touches = run.touching.filter(Boolean).length;
    const each = state.policy === "average" ? 1 : state.evaluations;
    const parts = [
      run.reached ? `there after ${run.steps}` : `not there within ${run.steps}`,
      ...(side() ? [`${side()} of the block`] : []),
      touches ? `touching in ${touches}` : "touching nothing",
    ];
    const effort = [count(run.decisions, "plan"), count(each * run.decisions, "evaluation")];
    fig.say(`Step ${number(Math.floor(step), 0)}: ${parts.join(", ")}; ${effort.join(", ")}`);
  }

  /** Draw only what lies in the room. */
  function within(draw) {
    const { ctx } = fig;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plane.px(-half), plane.py(half), 2 * half * plane.scaleX, 2 * half * plane.scaleY);
    ctx.clip();
    draw();
    ctx.restore();
  }

  fig.onDraw(() => {
    const [step, style] = [now(), styles()];
    within(() => {
      drawRoom(style);
      drawWay(step, style);
    });
    plane.line(rectangle(half, half), { color: fig.theme.soft, width: 2, close: true });
    drawLegend(style);
    tell(step);
  });

  const roll = animate(
    fig,
    (seconds) => {
      fig.set("step", Math.min(run.steps, now() + PACE * seconds));
      return fig.get("step") < run.steps;
    },
    () => fig.get("step") >= run.steps && fig.set("step", 0),
  );
  addPlayButton(fig, roll, { play: "Let it roll" });
  const slider = addSlider(fig, {
    ...{ label: "step", min: 0, max: limit, step: 1, value: 0 },
    format: (v) => number(Math.floor(v), 0),
    onInput: (v) => fig.set("step", v),
  });
  addButtons(fig, {
    label: "Draw again",
    onClick: () => fig.set("seed", (fig.get("seed") + 1) % 1e6),
  });
  addMenu(fig, { label: "policy", trait: "policy", options: settings.policies });
  const choose = (name, label, known, words) =>
    addMenu(fig, {
      ...{ label, value: String(fig.get(name)) },
      options: known.map((n) => [String(n), words(n)]),
      onInput: (n) => fig.set(name, Number(n)),
    });
  const { commitments, evaluations: efforts } = settings;
  const menu = choose("commitment", "looks again", commitments, (n) => `after ${n}`);
  const effort = choose("evaluations", "evaluations", efforts, (n) => `${n} a plan`);
  addHandle(fig, {
    axes: plane,
    label: "start of the ball",
    color: COLORS.text,
    at: () => fig.get("start"),
    move: (x, y) => {
      const ball = [x, y, 0, 0].map((v) => Math.round(100 * v) / 100);
      room.keepOut(ball);
      fig.set("start", ball.slice(0, 2));
    },
  });
  fig.on(names, solve);
  fig.on("step", () => slider.show(now()));
  solve();
}

export default live("A ball that acts by plans in a room with a block, seen from above", build);
