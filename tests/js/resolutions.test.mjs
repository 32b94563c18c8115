import assert from "node:assert/strict";
import test from "node:test";

import { logSnr, shift } from "../../fmtutor/widgets/js/clocks.js";
import { EmpiricalField } from "../../fmtutor/widgets/js/empirical.js";
import { unpack } from "../../fmtutor/widgets/js/packing.js";
import { condOT } from "../../fmtutor/widgets/js/paths.js";
import { Draws, blockMeans, enlarged, shrunkNoise } from "../../fmtutor/widgets/js/resolutions.js";
import { Random } from "../../fmtutor/widgets/js/rng.js";
import { entropy } from "../../fmtutor/widgets/js/softmax.js";
import { close, fixtures, revive } from "./fixtures.mjs";

const { side, packed, seed, garments, t, cases } = fixtures.resolutions;
const [TOLERANCE, path] = [1e-5, condOT()];
const pixels = unpack(revive(packed));
const pictures = Float64Array.from(pixels, (v) => v / 127.5 - 1);
const noise = Float64Array.from(new Random(seed).normals(new Float32Array(pictures.length)));

test("the pictures arrive, a byte a pixel", () => {
  assert.equal(pixels.length, 64 * side ** 2);
  assert.equal(Math.min(...pixels), 0);
  assert.equal(Math.max(...pixels), 255);
  assert.throws(() => unpack({ ...revive(packed), dtype: "int8" }), /int8, which is not known/);
  assert.throws(() => unpack({ ...revive(packed), shape: [63] }), /50176 bytes, not 63/);
});

for (const { kind, ratio, small, times, data, x, logWeights, mean, possible } of cases) {
  const name = `${kind}, blocks of ${ratio} × ${ratio}`;
  const size = small ? side / ratio : side;
  const dim = size ** 2;
  let shown = pictures;
  if (kind !== "large") shown = blockMeans(shown, side, ratio);
  if (kind === "blocks") shown = enlarged(shown, side / ratio, ratio);
  const drawn = small ? shrunkNoise(noise, side, ratio) : noise;

  test(`pictures and times: ${name}`, () => {
    const last = shown.subarray((garments.at(-1) - 1) * dim, garments.at(-1) * dim);
    close(last, data, TOLERANCE, "the last picture");
    close(t.map((time) => (small ? time : shift(time, ratio))), times, TOLERANCE, "times");
  });

  test(`mixtures, posterior and mean: ${name}`, () => {
    const field = new EmpiricalField(path, shown, dim);
    garments.forEach((garment, i) => {
      times.forEach((time, k) => {
        const at = (garment - 1) * dim;
        const point = Float64Array.from(
          { length: dim },
          (_, j) => time * shown[at + j] + (1 - time) * drawn[at + j],
        );
        close(point, x[i][k], TOLERANCE, "mixture");
        const weights = field.posterior(point, time);
        const logs = [...weights].map((w) => Math.log(w));
        // What is below the smallest number is nought in both.
        const kept = logWeights[i][k].map((w, j) => [w, logs[j]]).filter(([w]) => w > -700);
        assert.ok(kept.length >= 1);
        close(kept.map(([, w]) => w), kept.map(([w]) => w), TOLERANCE, "log weights");
        close(field.posteriorMean(point, time), mean[i][k], TOLERANCE, "mean");
      });
    });
  });

  test(`how many are possible on average: ${name}`, () => {
    const draws = new Draws(shown, drawn, dim);
    close(times.map((time) => draws.possible(time)), possible, TOLERANCE, "possible");
    assert.ok(Math.abs(draws.possible(0) - 64) < 1e-9);
  });
}

test("even blocks say at the shifted time what small pictures say, detail says more", () => {
  for (const ratio of [2, 4]) {
    const small = blockMeans(pictures, side, ratio);
    const draws = [
      [small, shrunkNoise(noise, side, ratio), (side / ratio) ** 2],
      [enlarged(small, side / ratio, ratio), noise, side ** 2],
      [pictures, noise, side ** 2],
    ].map((parts) => new Draws(...parts));
    for (const time of [0.05, 0.2, 0.35, 0.6]) {
      const earlier = shift(time, ratio);
      const [few, even, full] = draws.map((d, k) => d.possible(k ? earlier : time));
      assert.ok(Math.abs(even - few) < 1e-9, `${even} are ${few}`);
      assert.ok(full < few - 1e-3, `${full} are fewer than ${few}`);
      assert.ok(draws[2].possible(time) < full, "at the same time fewer still");
      assert.ok(Math.abs(logSnr(path, earlier) + 2 * Math.log(ratio) - logSnr(path, time)) < 1e-9);
    }
  }
});

test("the entropy of even weights is the logarithm of their number, of one weight none", () => {
  assert.ok(Math.abs(entropy([0.25, 0.25, 0.25, 0.25]) - Math.log(4)) < 1e-12);
  assert.equal(entropy(Float64Array.of(0, 1, 0)), 0);
});
