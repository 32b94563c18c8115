import assert from "node:assert/strict";
import test from "node:test";

import { Axes } from "../../fmtutor/widgets/js/axes.js";
import { COLORS, blend, rgb } from "../../fmtutor/widgets/js/colors.js";
import { number, runs, scientific } from "../../fmtutor/widgets/js/words.js";
import { fixtures } from "./fixtures.mjs";

test("the palette is Python's", () => {
  assert.deepEqual(COLORS, fixtures.colors);
  for (const [share, start, end, expected] of fixtures.blends)
    assert.equal(blend(share, start, end), expected);
  assert.deepEqual(rgb("#56B4E9"), [0x56, 0xb4, 0xe9]);
});

test("numbers are read with a true minus sign, and zero has none", () => {
  assert.equal(number(-1.25, 1), "−1.3");
  assert.equal(number(-0.001), "0.00");
  assert.equal(number(12), "12.00");
});

test("huge and tiny numbers are read with a power of ten", () => {
  assert.equal(number(999_999.994), "999999.99");
  assert.equal(number(-1_666_666_665.5), "−1.67·10⁹");
  assert.equal(number(1e200, 1), "1.0·10²⁰⁰");
  assert.equal(number(-Infinity), "−Infinity");
  assert.equal(scientific(0.000_123), "1.2·10⁻⁴");
  assert.equal(scientific(0.000_099_9), "1.0·10⁻⁴", "rounded up to the next power");
});

test("words are cut where something stands lower or higher", () => {
  const cut = (words) => runs(words).map(({ text, shift }) => [text, Math.sign(shift)]);
  assert.deepEqual(cut("pₜ uₜ"), [["p", 0], ["t", 1], [" u", 0], ["t", 1]]);
  assert.deepEqual(cut("10⁻⁴"), [["10", 0], ["−4", -1]]);
  assert.deepEqual(cut("plain"), [["plain", 0]]);
});

for (const [name, source] of Object.entries(fixtures.modules)) {
  test(`${name} is one module that renders`, async () => {
    const url = `data:text/javascript;base64,${Buffer.from(source).toString("base64")}`;
    const module = await import(url);
    assert.equal(typeof module.default.render, "function");
  });
}

test("coordinates map to the stage and back", () => {
  const figure = { width: 600, height: 300 };
  const axes = new Axes(figure, { x: [-2, 2], y: [-1, 3], margin: [10, 20, 30, 40] });
  assert.deepEqual([axes.px(-2), axes.px(2)], [10, 570]);
  assert.deepEqual([axes.py(3), axes.py(-1)], [20, 260]);
  assert.deepEqual(axes.locate(axes.px(0.5), axes.py(1.5)), [0.5, 1.5]);
  assert.deepEqual(axes.locate(-99, -99), [-2, 3], "kept within the ranges");
  assert.ok(axes.contains(300, 100) && !axes.contains(5, 100) && !axes.contains(300, 270));
});

test("equal axes have one scale and stay in the middle", () => {
  const figure = { width: 600, height: 300 };
  const axes = new Axes(figure, { x: [-1, 1], y: [-1, 1], equal: true, margin: [0, 0, 0, 0] });
  assert.equal(axes.scaleX, 150);
  assert.equal(axes.scaleY, 150);
  assert.deepEqual([axes.px(0), axes.py(0)], [300, 150]);
  const boxes = { box: [0.5, 0, 1, 1], narrowBox: [0, 0.5, 1, 1], margin: [0, 0, 0, 0] };
  const half = new Axes(figure, { x: [0, 1], y: [0, 1], ...boxes });
  assert.deepEqual([half.px(0), half.py(1)], [300, 0]);
  figure.width = 300;
  half.layout();
  assert.deepEqual([half.px(0), half.py(1)], [0, 150], "on a narrow screen it stands below");
});
