import assert from "node:assert/strict";
import test from "node:test";

import { unpack } from "../../fmtutor/widgets/js/packing.js";
import { WordFilter, Writer, patternOf, tokensOf } from "../../fmtutor/widgets/js/spelling.js";
import { TokenTransformer } from "../../fmtutor/widgets/js/token_network.js";
import { close, fixtures, revive } from "./fixtures.mjs";

for (const { name, packed, x, logits } of fixtures.tokenNetworks)
  test(`the logits are those of the package: ${name}`, () => {
    const network = TokenTransformer.unpack(revive(packed));
    const out = new Float32Array(network.length * network.tokens);
    x.forEach((sequence, i) => {
      network.forward(sequence, out);
      close(out, logits[i], 1e-4, `sequence ${i}`);
    });
  });

test("a network that does not fit is refused", () => {
  const { packed } = fixtures.tokenNetworks[0];
  const other = (change) => {
    const { architecture, ...rest } = revive(packed);
    return { architecture: { ...architecture, ...change }, ...rest };
  };
  assert.throws(() => TokenTransformer.unpack({}), /the network has not arrived/);
  assert.throws(() => TokenTransformer.unpack(other({ hidden: 25 })), /do not fit its rows/);
  assert.throws(() => TokenTransformer.unpack(other({ heads: 5 })), /do not share the width/);
});

const { packed, filter: bytes, hashes, cases } = fixtures.spelling;
const filter = new WordFilter(unpack(revive(bytes)), hashes);

for (const { pattern, settings, path, known } of cases)
  test(`the words are those of the package: ${pattern}`, () => {
    const network = TokenTransformer.unpack(revive(packed));
    const start = tokensOf(pattern, network);
    const writer = new Writer(network, { start, ...settings });
    writer.advance(settings.steps, Infinity);
    path.forEach((words, step) => assert.deepEqual(writer.words(step), words));
    assert.deepEqual(writer.words(settings.steps).map((word) => filter.has(word)), known);
    const open = writer.words(settings.steps).flat().filter((token) => token === network.tokens);
    assert.equal(open.length, 0);
  });

test("without time nothing is written, and what was begun goes on", () => {
  const network = TokenTransformer.unpack(revive(packed));
  const { pattern, settings, path } = cases[0];
  const writer = new Writer(network, { start: tokensOf(pattern, network), ...settings });
  writer.advance(2, 0);
  assert.equal(writer.known, 0);
  while (writer.known < settings.steps) writer.advance(settings.steps, 1);
  assert.deepEqual(writer.words(settings.steps), path.at(-1));
});

test("what is typed becomes a pattern", () => {
  assert.equal(patternOf("M..ing"), "m..ing");
  assert.equal(patternOf("a?b_c*d e-f"), "a.b.c.d.e.");
  assert.equal(patternOf("ünï1…"), "n");
  assert.equal(patternOf(""), "..........");
  assert.equal(patternOf("1234"), "..........");
});

test("a pattern that is none is refused", () => {
  const sizes = { length: 10, tokens: 27 };
  assert.deepEqual(tokensOf("b.", sizes).slice(0, 3), [1, 27, 26]);
  for (const bad of ["", "A", "abcdefghijk", "a b", null])
    assert.throws(() => tokensOf(bad, sizes), /the pattern is/);
});

test("a dictionary that does not fit is refused", () => {
  assert.throws(() => new WordFilter(new Float32Array(3), 7), /no power of two/);
  assert.throws(() => new WordFilter(new Float32Array(4), 0), /no hashes/);
});
