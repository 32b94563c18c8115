import assert from "node:assert/strict";
import test from "node:test";

import { SphereField, normalised } from "../../fmtutor/widgets/js/sphere.js";
import { close, fixtures } from "./fixtures.mjs";

const TOLERANCE = 1e-5;
const { data, x, t, velocities, starts, steps, ways } = fixtures.sphere;
const flat = (points) => Float64Array.from(points.flat());
const field = new SphereField(flat(data));

test("velocities of the exact field on the sphere", () => {
  t.forEach((time, k) => {
    const out = new Float64Array(3 * x.length);
    field.velocity(flat(x), time, out);
    close(out, velocities[k], TOLERANCE, `velocity at ${time}`);
  });
});

test("the ways of particles, and where they end", () => {
  const path = field.follow(flat(starts), steps);
  assert.equal(path.length, ways.length);
  path.forEach((points, k) => close(points, ways[k], TOLERANCE, `step ${k}`));
});

test("at a data point and at its antipode the field is a number", () => {
  const one = new SphereField(Float64Array.of(0, 0, 1));
  const out = new Float64Array(6);
  one.velocity(Float64Array.of(0, 0, 1, 0, 0, -1), 0.3, out);
  assert.ok(out.every(Number.isFinite));
});

test("points are put onto the sphere", () => {
  close(normalised(Float64Array.of(3, 0, 4, 0, -2, 0)), [0.6, 0, 0.8, 0, -1, 0], 1e-12);
});
