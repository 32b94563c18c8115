import assert from "node:assert/strict";
import test from "node:test";

import { between, logSnr, timeOfLogSnr, timesOn } from "../../fmtutor/widgets/js/clocks.js";
import { SAMPLERS, walk } from "../../fmtutor/widgets/js/exponential.js";
import { GaussianMixture } from "../../fmtutor/widgets/js/mixture.js";
import { unpackPath } from "../../fmtutor/widgets/js/paths.js";
import { Random } from "../../fmtutor/widgets/js/rng.js";
import { close, fixtures, revive } from "./fixtures.mjs";

const TOLERANCE = 1e-5;
const PATHS = fixtures.schedules.map(unpackPath);
const SPAN = [-6, 6];

/** The path at a place among the schedules, here always as one between two. */
function scheduleAt(place) {
  const k = Math.min(Math.floor(place), PATHS.length - 2);
  return between(PATHS[k], PATHS[k + 1], place - k);
}

const mixtureOn = (path) => GaussianMixture.unpack(revive(fixtures.explored), path);

/** Ends over √(α² + σ²) of points that start as the same noise on every path. */
function ends(path, grid, sampler, steps = 12) {
  const times = timesOn(path, grid, SPAN, steps);
  const [first, last] = [times[0], times.at(-1)];
  const x0 = new Random(3).normals(new Float64Array(20)).map((z) => path.sigma(first) * z);
  const way = walk(mixtureOn(path), times, x0, sampler, new Random(4));
  return way.at(-1).map((x) => x / Math.hypot(path.alpha(last), path.sigma(last)));
}

test("each sampler and grid has been compared", () => {
  const found = new Set(fixtures.exponential.map(({ sampler }) => sampler));
  assert.deepEqual([...found].sort(), [...SAMPLERS].sort());
  assert.equal(new Set(fixtures.exponential.map(({ grid }) => grid)).size, 2);
});

for (const { place, grid, sampler, steps, x0, seed, times, span, ends } of fixtures.exponential) {
  test(`${sampler}, equal steps of ${grid}, schedule ${place}`, () => {
    const path = scheduleAt(place);
    const found = timesOn(path, grid, span, steps);
    close(found, times, TOLERANCE, "time");
    const points = Float64Array.from(x0.flat());
    const way = walk(mixtureOn(path), found, points, sampler, new Random(seed));
    assert.equal(way.length, steps + 1);
    close(way[0], x0, 0, "start");
    ends.forEach((end, k) => close(way[k + 1], end, TOLERANCE, `points after ${k + 1} steps`));
    assert.deepEqual(points, Float64Array.from(x0.flat()), "the first points are left as they were");
  });
}

test("on one grid of log-SNR the schedule moves the ends of Euler's method alone", () => {
  for (const sampler of SAMPLERS) {
    const all = [0, 0.6, 1, 1.5, 2].map((place) => ends(scheduleAt(place), "log-SNR", sampler));
    const far = all.map((end) => Math.max(...end.map((x, i) => Math.abs(x - all[0][i]))));
    for (const distance of far.slice(1))
      if (sampler === "euler") assert.ok(distance > 0.1, `Euler's moved by ${distance}`);
      else assert.ok(distance < 1e-9, `those of ${sampler} moved by ${distance}`);
  }
});

test("with a clock of its own the schedule moves the ends of each", () => {
  for (const sampler of SAMPLERS) {
    const [a, b] = [0, 2].map((place) => ends(scheduleAt(place), "time", sampler));
    const far = Math.max(...a.map((x, i) => Math.abs(x - b[i])));
    assert.ok(far > 0.03, `those of ${sampler} moved by ${far}`);
  }
});

test("on the straight path DDIM is Euler's method", () => {
  for (const grid of ["log-SNR", "time"])
    close(ends(PATHS[0], grid, "ddim"), ends(PATHS[0], grid, "euler"), 1e-12, "end");
});

test("derivatives of a path in between are those of its scales", () => {
  const h = 1e-5;
  for (const place of [0.3, 1.8])
    for (const t of [0.1, 0.5, 0.9]) {
      const path = scheduleAt(place);
      const slope = (of) => (of(t + h) - of(t - h)) / (2 * h);
      close([path.dAlpha(t), path.dSigma(t)], [path.alpha, path.sigma].map(slope), 1e-7, "slope");
      close([path.halfDVariance(t)], [slope((s) => path.sigma(s) ** 2 / 2)], 1e-7, "half");
    }
});

test("a log-SNR and its time; beyond the ends of a path, its ends", () => {
  for (const path of PATHS)
    for (const t of [0.05, 0.5, 0.95]) close([timeOfLogSnr(path, logSnr(path, t))], [t], 1e-9, "t");
  close([timeOfLogSnr(PATHS[2], -100), timeOfLogSnr(PATHS[2], 100)], [0, 1], 1e-12, "end");
});

test("an unknown sampler is refused", () => {
  const path = PATHS[0];
  assert.throws(() => walk(mixtureOn(path), [0.1, 0.2], new Float64Array(2), "leap"), /leap/);
});
