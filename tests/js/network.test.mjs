import assert from "node:assert/strict";
import test from "node:test";

import { guided } from "../../fmtutor/widgets/js/guidance.js";
import { MLP } from "../../fmtutor/widgets/js/mlp.js";
import { unpack } from "../../fmtutor/widgets/js/packing.js";
import { Random } from "../../fmtutor/widgets/js/rng.js";
import { Trainer } from "../../fmtutor/widgets/js/training.js";
import { TwoTimes } from "../../fmtutor/widgets/js/two_times.js";
import { close, fixtures, revive } from "./fixtures.mjs";

for (const { name, packed, x, t, labels, velocities } of fixtures.networks) {
  test(`forward: ${name}`, () => {
    const mlp = MLP.unpack(revive(packed));
    labels.forEach((label, i) => {
      t.forEach((time, k) => {
        const points = Float32Array.from(x.flat());
        const out = new Float32Array(points.length);
        mlp.forward(points, time, out, label ?? undefined);
        close(out, velocities[i][k], 1e-5, `label ${label}, t = ${time}`);
      });
    });
  });
}

for (const { name, packed, x, t, labels, velocities } of fixtures.shipped) {
  test(`the weights that ship mean what they meant: ${name}`, () => {
    const mlp = MLP.unpack(revive(packed));
    labels.forEach((label, i) => {
      const out = new Float32Array(x.flat().length);
      mlp.forward(Float32Array.from(x.flat()), t, out, label ?? undefined);
      close(out, velocities[i], 1e-4, `label ${label}`);
    });
  });
}

test("an average velocity means what it meant, and jumps as the package does", () => {
  const { packed, x, s, t, velocities, times, jumped } = fixtures.jumps;
  const u = TwoTimes.unpack(revive(packed));
  const points = Float64Array.from(x.flat());
  const out = new Float64Array(points.length);
  u.average(points, s, t, out);
  close(out, velocities[0], 1e-4, "the recorded velocities");
  const path = u.jump(points, times);
  assert.equal(path.length, times.length);
  close(path.at(-1), jumped, 1e-4, "two jumps");
});

test("a second time that does not fit is refused", () => {
  const packed = revive(fixtures.jumps.packed);
  const { data, dtype, shape } = packed.span;
  const short = { data: new DataView(data.buffer, data.byteOffset, 2), dtype, shape: [1] };
  assert.throws(() => TwoTimes.unpack({ ...packed, span: short }), /do not fit the second time/);
  assert.throws(() => TwoTimes.unpack({}), /the network has not arrived/);
  assert.equal(shape.length, 1);
});

test("a single point and an odd number of points are computed alike", () => {
  const { packed, x } = fixtures.networks[0];
  const mlp = MLP.unpack(revive(packed));
  const points = Float32Array.from(x.flat());
  const all = new Float32Array(points.length);
  mlp.forward(points, 0.3, all);
  for (const n of [1, 3, 32, 33, 35]) {
    const out = new Float32Array(n * mlp.dim);
    mlp.field()(points.slice(0, n * mlp.dim), 0.3, out);
    close(out, all.slice(0, n * mlp.dim), 1e-6, `${n} points`);
  }
  mlp.forward(new Float32Array(0), 0.3, new Float32Array(0));
});

test("guidance is u + scale (c − u), its scale asked anew", () => {
  const { packed, x, t, scales, guided: expected } = fixtures.guidance;
  const mlp = MLP.unpack(revive(packed));
  const points = Float32Array.from(x.flat());
  const out = new Float32Array(points.length);
  let scale = 0;
  const field = guided(mlp.field(1), mlp.field(), () => scale, points.length);
  scales.forEach((s, i) => {
    scale = s;
    field(points, t, out);
    close(out, expected[i], 1e-5, `scale ${s}`);
  });
});

for (const { name, packed, xt, t, ut, labels, loss, gradient, steps, lr, params } of fixtures.training) {
  test(`loss, gradient and Adam: ${name}`, () => {
    const mlp = MLP.unpack(revive(packed));
    const trainer = new Trainer(mlp, { batch: t.length, lr });
    const take = () => trainer.lossAndGradient(xt.flat(), t, ut.flat(), labels);
    close([take()], [loss], 1e-5, "loss");
    const largest = Math.max(...gradient.map(Math.abs));
    close(trainer.gradient.map((g) => g / largest), gradient.map((g) => g / largest), 1e-4, "gradient");
    for (let step = 0; step < steps; step++) {
      take();
      trainer.update();
      // Adam itself hardly sees the length of a gradient: its first moment does.
      const length = Math.hypot(...trainer.moments[0]);
      if (step === 0) close([length], [0.1], 1e-4, "moment of a clipped gradient");
    }
    close(mlp.params, params, 1e-4, "parameter after Adam");
  });
}

test("training from the first weights lowers the loss to its floor", () => {
  const { data, floor } = fixtures.descent;
  const random = new Random(1);
  const architecture = fixtures.networks[0].packed.architecture;
  const mlp = MLP.initial(architecture, random);
  const trainer = new Trainer(mlp, { batch: 128, lr: 5e-3 });
  const points = Float32Array.from(data.flat());
  const losses = Array.from({ length: 500 }, () => trainer.step(points, random));
  const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;
  assert.ok(mean(losses.slice(0, 5)) > 1.4 * floor, "the first losses are high");
  const last = mean(losses.slice(-100)) / floor;
  assert.ok(last > 0.9 && last < 1.12, `the last losses are ${last} of the floor`);
  const paired = Array.from({ length: 50 }, () => trainer.step(points, random, { optimal: true }));
  assert.ok(mean(paired) < 0.8 * floor, "optimal pairs scatter less");
});

test("the first weights are spread as torch's", () => {
  const architecture = { ...fixtures.networks[0].packed.architecture, width: 64, classes: 3 };
  const mlp = MLP.initial(architecture, new Random(2));
  for (const { nin, w, b } of mlp.layers) {
    const bound = 1 / Math.sqrt(nin);
    for (const values of [w, b]) {
      const top = Math.max(...values.map(Math.abs));
      assert.ok(top <= bound && top > 0.5 * bound, `${top} for a bound of ${bound}`);
    }
  }
  const square = mlp.labels.reduce((sum, v) => sum + v * v, 0) / mlp.labels.length;
  assert.ok(square > 0.4 && square < 1.8, `label vectors have variance ${square}`);
});

test("half precision is read as numpy writes it, and damage is named", () => {
  const { packed, values } = fixtures.halves;
  const good = revive(packed);
  assert.deepEqual([...unpack(good)], values);
  assert.throws(() => unpack(undefined, "the network"), /the network has not arrived/);
  assert.throws(() => unpack({ ...good, data: null }), /has not arrived/);
  assert.throws(() => unpack({ ...good, shape: [3] }), /bytes, not 6/);
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, NaN, true);
  assert.throws(() => unpack({ data: view, dtype: "float32", shape: [1] }), /not finite/);
  const { architecture } = fixtures.networks[0].packed;
  assert.throws(() => new MLP(architecture, new Float32Array(3)), /weights, not 3/);
});
