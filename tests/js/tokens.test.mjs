import assert from "node:assert/strict";
import test from "node:test";

import { Random } from "../../fmtutor/widgets/js/rng.js";
import { TokenChain } from "../../fmtutor/widgets/js/tokens.js";
import { close, fixtures } from "./fixtures.mjs";

const TOLERANCE = 1e-9;

for (const { table, settings, law, x, posteriors, propagated, error, formula } of fixtures.tokens) {
  const { masked, schedule, renewal } = settings;
  const name = `${masked ? "mask" : "uniform"}, ${schedule}, renewal ${renewal}`;
  const chain = new TokenChain(table, settings);

  test(`the law and the posteriors: ${name}`, () => {
    close(chain.law(0.6), law, TOLERANCE, "law");
    const told = chain.posteriors(0.6);
    const found = x.map(([a, b]) => told(a, b).map((p) => [...p]));
    close(found.flat(2), posteriors.flat(2), TOLERANCE, "posteriors");
  });

  test(`what three steps draw, and how far that is from the data: ${name}`, () => {
    close(chain.propagated(3), propagated, TOLERANCE, "propagated");
    close([chain.error(3), chain.formula(3)], [error, formula], TOLERANCE, "errors");
    if (masked && !renewal) close([error], [formula], 1e-9, "the theorem");
  });

  test(`the chains draw from that law: ${name}`, () => {
    const [count, n] = [20_000, chain.states];
    const all = chain.run(count, 3, new Random(5));
    assert.equal(all.length, 4);
    const shares = new Float64Array(n * n);
    const last = all.at(-1);
    for (let i = 0; i < last.length; i += 2) shares[last[i] * n + last[i + 1]] += 1 / count;
    let apart = 0;
    shares.forEach((share, i) => (apart += Math.abs(share - propagated[i]) / 2));
    assert.ok(apart > 1e-3 && apart < 0.05, `total variation ${apart}`);
  });
}

test("a schedule that does not exist is refused", () => {
  assert.throws(() => new TokenChain([1], { masked: true, schedule: "early" }), /no schedule early/);
});
