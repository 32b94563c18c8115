import assert from "node:assert/strict";
import test from "node:test";

import { unpack } from "../../fmtutor/widgets/js/packing.js";
import { WordFilter, Writer, patternOf, spelled, tokensOf } from "../../fmtutor/widgets/js/spelling.js";
import { TokenTransformer } from "../../fmtutor/widgets/js/token_network.js";
import { close, fixtures, revive } from "./fixtures.mjs";

for (const { name, packed, x, logits } of fixtures.tokenNetworks)
  test(`the logits are those of the package: ${name}`, () => {
    const network = TokenTransformer.unpack(revive(packed));
    const out = new Float32Array(network.length * network.tokens);
    x.forEach((sequence, i) => {
      network.forward(sequence, out);
      close(out, logits[i], 2e-5, `sequence ${i}`);
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
  assert.throws(() => new TokenTransformer(packed.architecture, new Float32Array(9), new Float32Array(9)), /do not fit the arch/);
});

const { packed, filter: bytes, hashes, cases, open } = fixtures.spelling;
const filter = new WordFilter(unpack(revive(bytes)), hashes);

for (const { pattern, settings, path, known } of cases)
  test(`the words are those of the package: ${pattern}`, () => {
    const network = TokenTransformer.unpack(revive(packed));
    const start = tokensOf(pattern, network);
    const writer = new Writer(network, { start, ...settings });
    writer.advance(settings.steps, Infinity);
    path.forEach((words, step) => assert.deepEqual(writer.words(step), words));
    assert.deepEqual(writer.words(settings.steps).map((word) => filter.has(word)), known);
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
  assert.equal(patternOf("M..ing", 10), "m..ing");
  assert.equal(patternOf("a?b_c*d e-f", 10), "a.b.c.d.e.");
  assert.equal(patternOf("Th·n ", 10), "th.n");
  assert.equal(patternOf("m…ing", 10), "m...ing");
  assert.equal(patternOf("ünï1", 10), "n");
  assert.equal(patternOf("", 10), "..........");
  assert.equal(patternOf("1234", 4), "....");
});

test("a word is shown with its blanks, and judged when it is whole", () => {
  assert.equal(spelled([2, 26, 27, 0, 26, 26]).join(""), "c_·a");
  assert.deepEqual(spelled([26, 26]), []);
  assert.ok(open.length > 5000 && open.every((word) => word.includes(27)));
  assert.ok(!open.some((word) => filter.has(word)));
});

test("a pattern that is none is refused", () => {
  const sizes = { length: 10, tokens: 27 };
  assert.deepEqual(tokensOf("b.", sizes).slice(0, 3), [1, 27, 26]);
  for (const bad of ["", "A", "abcdefghijk", "a b", null])
    assert.throws(() => tokensOf(bad, sizes), /the pattern is/);
});

test("a dictionary that does not fit is refused", () => {
  assert.throws(() => new WordFilter(new Float32Array(0), 7), /is empty/);
  assert.throws(() => new WordFilter(new Float32Array(4), 0), /no hashes/);
});
