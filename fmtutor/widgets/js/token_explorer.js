import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addButtons, addMenu, addSlider } from "./controls.js";
import { live } from "./figure.js";
import { drawHeat } from "./heat.js";
import { addPlayButton, animateTime } from "./motion.js";
import { Random } from "./rng.js";
import { TokenChain } from "./tokens.js";
import { number } from "./words.js";

/** Seconds that the way from the source to the data takes when it is played. */
const DURATION = 5;
/** Room that a pair has in its cell, around the middle. */
const ROOM = 0.72;

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { laws, sources, schedules, counts, most, pairs: count, floor } = fig.get("_settings");
  const names = ["law", "source", "schedule", "steps", "renewal", "time", "seed"];
  const first = names.map((name) => [name, fig.get(name)]);
  const plane = fig.axes({
    ...{ x: [0, 1], y: [0, 1], equal: true, margin: [26, 26, 10, 30] },
    ...{ box: [0, 0, 0.52, 1], narrowBox: [0, 0, 1, 0.58] },
  });
  const curve = fig.axes({
    ...{ x: [-0.15, Math.log2(most) + 0.15], y: [Math.log10(floor), 0.05] },
    ...{ box: [0.52, 0, 1, 1], narrowBox: [0, 0.58, 1, 1], margin: [52, 26, 10, 40] },
  });
  let chain;
  let errors;
  let formula;
  let chains;
  let jitter;

  /** Take over everything that the chains depend on. */
  function take() {
    const table = laws[fig.get("law")];
    const [steps, renewal, seed] = ["steps", "renewal", "seed"].map((name) => fig.get(name));
    need(table && sources.includes(fig.get("source")), "no law or source of this name");
    need(schedules.includes(fig.get("schedule")), "no schedule of this name");
    need(Number.isInteger(steps) && steps >= 1 && steps <= most, "steps out of their range");
    need(Number.isFinite(renewal) && renewal >= 0, "renewal out of its range");
    const settings = { masked: fig.get("source") === "mask", schedule: fig.get("schedule") };
    chain = new TokenChain(table, { ...settings, renewal });
    errors = counts.map((n) => chain.error(n));
    formula = counts.map((n) => chain.formula(n));
    const random = new Random(seed);
    jitter = Float64Array.from({ length: 2 * count }, () => ROOM * (random.uniform() - 0.5));
    chains = chain.run(count, steps, random);
    for (const side of ["x", "y"]) plane[side] = [0, chain.states];
  }

  /** The step that is shown: the last one whose time has come. */
  const stepNow = () => Math.floor(fig.get("time") * fig.get("steps") + 1e-9);

  /** Whether a pair is one of the data's, or has a mask and may still become one. */
  function possible(a, b) {
    const k = chain.tokens;
    return a === k || b === k || chain.table[a * k + b] > 0;
  }

  function drawPairs(now) {
    const { states } = chain;
    const law = chain.law(now / fig.get("steps"));
    const shades = new Float64Array(states * states);
    // Rows of the picture are second tokens.
    law.forEach((p, i) => (shades[(i % states) * states + Math.floor(i / states)] = Math.sqrt(p)));
    drawHeat(plane, shades, states, { alpha: 0.6, smooth: false });
    for (let i = 1; i < states; i++) {
      const style = { color: fig.theme.faint, width: i === chain.tokens ? 1.6 : 0.4 };
      plane.line([i, 0, i, states], style);
      plane.line([0, i, states, i], style);
    }
    const [right, wrong] = [[], []];
    chains[now].forEach((_, i) => {
      if (i % 2) return;
      const [a, b] = [chains[now][i], chains[now][i + 1]];
      const at = [a + 0.5 + jitter[i], b + 0.5 + jitter[i + 1]];
      (possible(a, b) ? right : wrong).push(...at);
    });
    plane.points(right, { color: fig.theme.exact, radius: 1.9, alpha: 0.75 });
    plane.points(wrong, { color: COLORS.learned, radius: 3.4, alpha: 1 });
    return wrong.length / 2;
  }

  function drawWords() {
    const { tokens, states, masked } = chain;
    const small = { size: 12, color: fig.theme.soft };
    plane.text(states / 2, 0, "first token", { ...small, dy: 14 });
    plane.text(0, states, "second token", { ...small, dy: -12, align: "left" });
    if (masked) plane.text(tokens + 0.5, states, "mask", { ...small, dy: -12 });
  }

  /** How far what the chain draws is from the data, against the number of steps. */
  function drawCurve() {
    const height = (error) => Math.log10(Math.max(floor, error));
    const at = (values) => values.flatMap((error, i) => [Math.log2(counts[i]), height(error)]);
    curve.clip(() => {
      if (chain.masked && !chain.renewal)
        curve.line(at(formula), { color: fig.theme.exact, width: 5, alpha: 0.3 });
      curve.line(at(errors), { color: COLORS.learned, width: 2 });
      curve.points(at(errors), { color: COLORS.learned, radius: 3, alpha: 1 });
      const here = Math.log2(fig.get("steps"));
      curve.line([here, height(0), here, 1], { color: fig.theme.faint, width: 1, dash: [2, 4] });
    });
    curve.frame({ xlabel: "steps", ylabel: "" });
    const small = { size: 12, color: fig.theme.soft };
    for (const n of counts) curve.text(Math.log2(n), Math.log10(floor), `${n}`, { ...small, dy: 12 });
    for (const power of [0, -1, -2])
      curve.text(curve.x[0], power, number(10 ** power, -power), { ...small, dx: -6, align: "right" });
    curve.text(curve.x[0], 0.05, "total variation (TV) from the data", {
      ...{ size: 12, dy: -12, align: "left", color: COLORS.learned },
    });
  }

  fig.onDraw(() => {
    const [now, steps] = [stepNow(), fig.get("steps")];
    need(chains[now], "the time lies outside of its range");
    need(errors.every(Number.isFinite), "the chain left the numbers");
    const wrong = drawPairs(now);
    drawWords();
    drawCurve();
    const end = chain.error(steps);
    const told = chain.masked && !chain.renewal ? `, formula ${number(chain.formula(steps), 3)}` : "";
    fig.say(
      `step ${now} of ${steps}, κ = ${number(chain.kappa(now / steps))}: ${wrong} of ${count} ` +
        `pairs wrong; at the end TV = ${number(end, 3)}${told}`,
    );
  });

  const play = animateTime(fig, DURATION);
  addPlayButton(fig, play);
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.01 });
  addMenu(fig, { label: "data", trait: "law", options: Object.keys(laws) });
  addMenu(fig, { label: "source", trait: "source", options: sources });
  addMenu(fig, { label: "schedule", trait: "schedule", options: schedules });
  addSlider(fig, {
    ...{ label: "steps", trait: "steps", min: 1, max: most, step: 1, format: (n) => `${n}` },
  });
  addSlider(fig, { label: "renewal η", trait: "renewal", min: 0, max: 20, step: 0.5 });
  addButtons(
    fig,
    { label: "New draw", onClick: () => fig.set("seed", (fig.get("seed") + 1) % 1000) },
    { label: "Reset", onClick: () => (play.pause(), first.forEach(([name, v]) => fig.set(name, v))) },
  );
  fig.on("time");
  fig.on(["law", "source", "schedule", "steps", "renewal", "seed"], take);
  take();
}

export default live("Pairs of tokens that jump from a source to the data, and how far they miss it", build);
