import assert from "node:assert/strict";
import test from "node:test";

import { CHAIN, centred, energy, torsion } from "../../fmtutor/widgets/js/butane.js";
import { EGNN } from "../../fmtutor/widgets/js/egnn.js";
import { follow } from "../../fmtutor/widgets/js/solvers.js";
import { close, fixtures, revive } from "./fixtures.mjs";

const flat = (points) => Float64Array.from(points.flat(Infinity));
const { molecules } = fixtures;

for (const { name, packed, x, t, velocities } of fixtures.particles) {
  test(`velocities of particles: ${name}`, () => {
    const net = EGNN.unpack(revive(packed));
    t.forEach((time, k) => {
      const out = new Float64Array(flat(x).length);
      net.forward(flat(x), time, out);
      close(out, velocities[k], 1e-5, `t = ${time}`);
    });
  });

  test(`one cloud alone moves as among others: ${name}`, () => {
    const net = EGNN.unpack(revive(packed));
    const [all, one] = [flat(x), flat(x[0])];
    const [out, alone] = [new Float64Array(all.length), new Float64Array(one.length)];
    net.forward(all, 0.3, out);
    net.forward(one, 0.3, alone);
    close(alone, out.subarray(0, one.length), 1e-12);
  });
}

test("a network that does not fit is refused", () => {
  const packed = revive(fixtures.particles[0].packed);
  const architecture = { ...packed.architecture, width: packed.architecture.width + 1 };
  assert.throws(() => EGNN.unpack({ ...packed, architecture }), /a network of this shape has/);
  assert.throws(() => EGNN.unpack({}), /the network has not arrived/);
});

test("torsions and energies of butane", () => {
  const { x, constants, torsions, energies } = molecules;
  const rows = x.map((_, i) => i * CHAIN);
  close(rows.map((at) => torsion(flat(x), at)), torsions, 1e-9, "torsion");
  close(rows.map((at) => energy(flat(x), at, constants)), energies, 1e-9, "energy");
});

test("a flat chain has the torsion π and not −π", () => {
  assert.equal(torsion(Float64Array.of(-1, 1, 0, -1, 0, 0, 0, 0, 0, 0, -1, 0)), Math.PI);
});

test("molecules are centred, each by itself", () => {
  const x = centred(Float64Array.from({ length: 2 * CHAIN }, (_, i) => i * i));
  for (const at of [0, CHAIN])
    for (let k = 0; k < 3; k++)
      assert.ok(Math.abs([0, 3, 6, 9].reduce((sum, i) => sum + x[at + i + k], 0)) < 1e-9);
});

test("the flows that ship lead to where the package leads", () => {
  const { packed, noise, steps, ends } = molecules;
  Object.values(packed).forEach((network, k) => {
    const path = follow(EGNN.unpack(revive(network)).forward, flat(noise), { steps });
    close(path.at(-1), ends[k], 1e-4, `after ${path.length - 1} steps`);
  });
});
