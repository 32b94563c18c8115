import assert from "node:assert/strict";
import test from "node:test";

import { BridgedPairs, entropicPlan, followNoise } from "../../fmtutor/widgets/js/bridges.js";
import { assign, squaredDistances } from "../../fmtutor/widgets/js/couplings.js";
import { Random } from "../../fmtutor/widgets/js/rng.js";
import { close, fixtures } from "./fixtures.mjs";

const floats = (rows) => Float64Array.from(rows.flat());

for (const { x0, x1, epsilon, plan, settings, ...rest } of fixtures.bridges) {
  const [a, b, n, flat] = [floats(x0), floats(x1), x0.length, plan.flat()];

  test(`the plan at ε = ${epsilon}`, () => {
    const found = entropicPlan(squaredDistances(a, b), n, epsilon, { tol: 1e-10 });
    close(found, flat, 1e-9, "plan");
    // Where it stops by itself: the columns were fitted last, and the rows are as right as it says.
    const rough = entropicPlan(squaredDistances(a, b), n, epsilon);
    const sums = (of) => rough.reduce((s, p, at) => ((s[of(at)] += p), s), new Float64Array(n));
    close(sums((at) => at % n), Array(n).fill(1 / n), 1e-12, "sums of columns");
    const rows = sums((at) => Math.floor(at / n));
    const off = rows.reduce((sum, row) => sum + Math.abs(row - 1 / n), 0);
    assert.ok(off <= 1.0001e-4, `rows are off by ${off}`);
  });

  test(`velocity, score and drift of the bridges at ε = ${epsilon}`, () => {
    const { x, t, velocity, score } = rest;
    const [bridges, points] = [new BridgedPairs(a, b, flat, settings), floats(x)];
    const out = new Float64Array(points.length);
    t.forEach((time, k) => {
      bridges.drift(0)(points, time, out);
      close(out, velocity[k], 1e-9, `velocity at ${time}`);
      bridges.drift(0.7)(points, time, out);
      const expected = floats(velocity[k]).map((u, i) => u + 0.7 * score[k].flat()[i]);
      close(out, expected, 1e-9, `drift at ${time}`);
    });
  });

  test(`the ways of the equation with noise at ε = ${epsilon}`, () => {
    const { seed, steps, way } = rest;
    const [start, { sigma }] = [a.slice(), settings];
    const drift = new BridgedPairs(a, b, flat, settings).drift(sigma ** 2 / 2);
    const found = followNoise(drift, start, { sigma, steps, random: new Random(seed) });
    assert.equal(found.length, steps + 1);
    // As close as the normal numbers, which are kept as float32.
    found.forEach((points, k) => close(points, way[k], 1e-5, `points after ${k} steps`));
    assert.deepEqual(start, a, "the first points are left as they were");
  });
}

test("with little entropy the plan is the best assignment of all", () => {
  const random = new Random(3);
  const draw = () => Float64Array.from({ length: 8 }, () => random.normal());
  const cost = squaredDistances(draw(), draw());
  const after = (j, rest) => orders(rest.filter((k) => k !== j)).map((order) => [j, ...order]);
  const orders = (rest) => (rest.length ? rest.flatMap((j) => after(j, rest)) : [[]]);
  const total = (order) => order.reduce((sum, j, i) => sum + cost[4 * i + j], 0);
  const best = orders([0, 1, 2, 3]).reduce((a, b) => (total(b) < total(a) ? b : a));
  const plan = entropicPlan(cost, 4, 0.02);
  close(plan, best.flatMap((j) => [0, 1, 2, 3].map((k) => (j === k ? 0.25 : 0))), 1e-3, "plan");
  assert.deepEqual([...assign(cost, 4)], best);
});

test("a plan that does not converge is a fault, not a wrong plan", () => {
  const cost = squaredDistances(Float64Array.of(0, 0, 1, 0), Float64Array.of(0, 0, 5, 0));
  assert.throws(() => entropicPlan(cost, 2, 0.5, { tol: 1e-15, most: 2 }), /not converged/);
  assert.throws(() => entropicPlan(cost.fill(NaN), 2, 0.5), /not converged/);
});

test("of one pair the drift is that of a Brownian bridge, in closed form", () => {
  const [sigma, width, t] = [0.8, 0.3, 0.25];
  const one = new BridgedPairs(Float64Array.of(0, 0), Float64Array.of(2, 1), [1], { sigma, width });
  const [x, out] = [Float64Array.of(0.9, -0.1), new Float64Array(2)];
  const square = width ** 2 + sigma ** 2 * t * (1 - t);
  const off = [x[0] - 2 * t, x[1] - t];
  one.drift(0)(x, t, out);
  const slope = (0.5 * sigma ** 2 * (1 - 2 * t)) / square; // γ'/γ
  close(out, [2 + slope * off[0], 1 + slope * off[1]], 1e-12, "velocity");
  one.drift(1)(x, t, out);
  const pull = slope - 1 / square;
  close(out, [2 + pull * off[0], 1 + pull * off[1]], 1e-12, "velocity plus score");
});

test("without a drift the noise has its size", () => {
  const [n, sigma, steps] = [4000, 0.7, 5];
  const still = (x, t, out) => out.fill(0);
  const x0 = new Float64Array(2 * n).fill(1);
  const end = followNoise(still, x0, { sigma, steps, random: new Random(7) }).at(-1);
  const mean = end.reduce((sum, x) => sum + x, 0) / (2 * n);
  const square = end.reduce((sum, x) => sum + (x - 1) ** 2, 0) / (2 * n);
  assert.ok(Math.abs(mean - 1) < 0.03, `mean ${mean}`);
  assert.ok(Math.abs(square / sigma ** 2 - 1) < 0.06, `variance ${square}`);
});
