import assert from "node:assert/strict";
import test from "node:test";

import { assign, squaredDistances } from "../../fmtutor/widgets/js/couplings.js";
import { EmpiricalField } from "../../fmtutor/widgets/js/empirical.js";
import { energyDistance, moments } from "../../fmtutor/widgets/js/metrics.js";
import { GaussianMixture } from "../../fmtutor/widgets/js/mixture.js";
import { unpackPath } from "../../fmtutor/widgets/js/paths.js";
import { Random } from "../../fmtutor/widgets/js/rng.js";
import { Solver, TABLEAUX, follow } from "../../fmtutor/widgets/js/solvers.js";
import { close, fixtures, revive } from "./fixtures.mjs";

const floats = (rows) => Float64Array.from(rows.flat());

for (const { packed, t, values } of fixtures.paths) {
  test(`schedule of ${packed.name}`, () => {
    const path = unpackPath(packed);
    for (const key of ["alpha", "sigma", "dAlpha", "dSigma", "halfDVariance"])
      close(t.map((time) => path[key](time)), values[key], 1e-6, key);
    assert.equal(path.name, packed.name);
  });
}

test("an unknown path is refused", () => {
  assert.throws(() => unpackPath({ name: "Bridge" }), /Bridge is not known/);
  assert.throws(() => unpackPath(undefined), /not known/);
});

for (const { packed, data, x, t, posterior, mean, velocity } of fixtures.empirical) {
  test(`posterior and marginal field along ${packed.name}`, () => {
    const field = new EmpiricalField(unpackPath(packed), floats(data));
    t.forEach((time, k) => {
      x.forEach((point, i) => {
        close(field.posterior(point, time), posterior[k][i], 1e-6, "posterior");
        close(field.posteriorMean(floats(x), time, 2 * i), mean[k][i], 1e-6, "mean");
      });
      const out = new Float64Array(2 * x.length);
      field.velocity(floats(x), time, out);
      close(out, velocity[k], 1e-6, "velocity");
    });
  });
}

for (const { packed, mixture, x, t, logProb, velocity, score, only } of fixtures.mixtures) {
  test(`mixture along ${packed.name}`, () => {
    const exact = GaussianMixture.unpack(revive(mixture), unpackPath(packed));
    const part = exact.only(only.components);
    t.forEach((time, k) => {
      const out = new Float64Array(2 * x.length);
      close(x.map((point) => exact.logProb(point, time)), logProb[k], 1e-5, "log p");
      exact.velocity(floats(x), time, out);
      close(out, velocity[k], 1e-5, "velocity");
      exact.score(floats(x), time, out);
      close(out, score[k], 1e-5, "score");
      part.velocity(floats(x), time, out);
      close(out, only.velocity[k], 1e-5, "velocity of a class");
    });
  });
}

for (const { method, steps, t0, t1, path } of fixtures.solvers) {
  test(`${method} in ${steps} steps from ${t0} to ${t1}`, () => {
    const { x0, packed, mixture } = fixtures.flow;
    const exact = GaussianMixture.unpack(revive(mixture), unpackPath(packed));
    const points = floats(x0);
    const found = follow(exact.velocity, points, { method, steps, t0, t1 });
    assert.equal(found.length, steps + 1);
    found.forEach((x, k) => close(x, path[k], 1e-5, `points after ${k} steps`));
    assert.deepEqual(points, floats(x0), "the first points are left as they were");
  });
}

test("each method converges with its order", () => {
  // dx/dt = x cos t has the solution x exp(sin t).
  const field = (x, t, out) => {
    for (let i = 0; i < x.length; i++) out[i] = x[i] * Math.cos(t);
  };
  for (const [method, { order }] of Object.entries(TABLEAUX)) {
    const error = (steps) => {
      const end = follow(field, Float64Array.of(1), { method, steps }).at(-1);
      return Math.abs(end[0] - Math.exp(Math.sin(1)));
    };
    const slope = Math.log2(error(16) / error(32));
    assert.ok(Math.abs(slope - order) < 0.15, `${method} converges with order ${slope}`);
  }
  assert.throws(() => new Solver("dopri5", 2), /dopri5 is not known/);
});

test("a part of the points takes a step as all of them do", () => {
  const field = (x, t, out) => {
    assert.equal(out.length, x.length);
    for (let i = 0; i < x.length; i++) out[i] = t + x[i] ** 2;
  };
  for (const method of Object.keys(TABLEAUX)) {
    const [all, parts] = [0, 1].map(() => Float32Array.of(0.1, -0.4, 0.7, 1.1, -0.2));
    const solver = new Solver(method, 5);
    solver.step(field, all, 0.3, 0.1);
    for (const begin of [0, 2, 4]) solver.step(field, parts.subarray(begin, begin + 2), 0.3, 0.1);
    assert.deepEqual(parts, all);
  }
});

for (const { cost, columns } of fixtures.assignments) {
  test(`assignment of ${columns.length} rows is scipy's`, () => {
    assert.deepEqual([...assign(floats(cost), columns.length)], columns);
  });
}

test("an assignment of 256 points is quick, and NaN is refused", () => {
  const random = new Random(3);
  const [a, b] = [0, 1].map(() => random.normals(new Float32Array(512)));
  const cost = squaredDistances(a, b);
  const start = performance.now();
  const columns = assign(cost, 256);
  assert.ok(performance.now() - start < 1000);
  assert.equal(new Set(columns).size, 256);
  assert.throws(() => assign(Float64Array.of(NaN), 1), /not a number/);
});

test("distances and moments", () => {
  const { a, b, squares, energy, mean, spread } = fixtures.distances;
  close(squaredDistances(floats(a), floats(b)), squares, 1e-6, "square");
  close([energyDistance(floats(a), floats(b))], [energy], 1e-5, "energy distance");
  const found = moments(floats(a));
  close([...found.mean, found.spread], [...mean, spread], 1e-6, "moment");
});
