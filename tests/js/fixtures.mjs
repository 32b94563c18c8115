/** What the tests share: the numbers that Python wrote, and closeness. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

/** The fixtures of `tests/test_widgets_js.py`, by name. */
export const fixtures = JSON.parse(readFileSync(process.env.FMTUTOR_FIXTURES, "utf8"));

/** Bytes in base64 become a DataView, as a figure's buffers do. */
export function revive(value) {
  if (Array.isArray(value) || typeof value !== "object" || value === null) return value;
  if ("base64" in value) {
    const bytes = Uint8Array.from(Buffer.from(value.base64, "base64"));
    return new DataView(bytes.buffer);
  }
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, revive(v)]));
}

/** Every number within `tolerance` of the expected one, relative to numbers above one. */
export function close(actual, expected, tolerance, what = "value") {
  const [a, b] = [[...actual], [...expected].flat(Infinity)];
  assert.equal(a.length, b.length, `${what}: ${a.length} numbers, not ${b.length}`);
  for (let i = 0; i < a.length; i++) {
    const error = Math.abs(a[i] - b[i]) / Math.max(1, Math.abs(b[i]));
    assert.ok(error <= tolerance, `${what}[${i}] is ${a[i]}, not ${b[i]}: off by ${error}`);
  }
}
