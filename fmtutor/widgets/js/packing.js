import { need } from "./checks.js";

/** @param {number} half The 16 bits of a half-precision number. */
function fromHalf(half) {
  const [sign, exponent, fraction] = [half & 0x8000 ? -1 : 1, (half >> 10) & 31, half & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent
    ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024)
    : sign * 2 ** -14 * (fraction / 1024);
}

/**
 * Read an array that Python packed (`pack_floats`): little endian, float32 or float16.
 *
 * @param {{data: DataView, dtype: string, shape: number[]} | undefined} packed
 * @param {string} what Its name in an error.
 * @returns {Float32Array}
 */
export function unpack(packed, what = "an array") {
  need(packed?.data instanceof DataView, `${what} has not arrived`);
  const { data, dtype, shape } = packed;
  const size = dtype === "float16" ? 2 : 4;
  const n = shape.reduce((product, side) => product * side, 1);
  need(data.byteLength === n * size, `${what} has ${data.byteLength} bytes, not ${n * size}`);
  const out = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    out[i] = size === 2 ? fromHalf(data.getUint16(2 * i, true)) : data.getFloat32(4 * i, true);
    need(Number.isFinite(out[i]), `${what} holds a number that is not finite`);
  }
  return out;
}
