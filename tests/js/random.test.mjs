import assert from "node:assert/strict";
import test from "node:test";

import { Random } from "../../fmtutor/widgets/js/rng.js";
import { close, fixtures } from "./fixtures.mjs";

for (const { seed, bits, uniforms, integers, normals } of fixtures.random) {
  test(`seed ${seed} gives Python's numbers`, () => {
    const draw = (one) => {
      const random = new Random(seed);
      return bits.map(() => one(random));
    };
    assert.deepEqual(draw((random) => random.bits()), bits);
    assert.deepEqual(draw((random) => random.uniform()), uniforms);
    assert.deepEqual(draw((random) => random.integer(10)), integers);
    close(draw((random) => random.normal()), normals, 1e-14, "normal");
    assert.deepEqual([...new Random(seed).normals(new Float32Array(bits.length))], normals.map(Math.fround));
  });
}

test("the numbers are uniform and normal", () => {
  const random = new Random(5);
  const n = 200_000;
  const counts = new Float64Array(16);
  for (let i = 0; i < n; i++) counts[random.integer(16)] += 16 / n;
  close(counts, Array(16).fill(1), 0.04, "share of a sixteenth");
  const z = random.normals(new Float64Array(n));
  const moment = (k) => z.reduce((sum, x) => sum + x ** k / n, 0);
  close([1, 2, 3, 4].map(moment), [0, 1, 0, 3], 0.03, "moment");
});
