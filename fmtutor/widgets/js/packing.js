import { need } from "./checks.js";

/** @param {number} half The 16 bits of a half-precision number. */
function fromHalf(half) {
  const [sign, exponent, fraction] = [half & 0x8000 ? -1 : 1, (half >> 10) & 31, half & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent
    ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024)
    : sign * 2 ** -14 * (fraction / 1024);
}

/** The bytes of a number of each kind, and how it is read. */
const READERS = {
  uint8: [1, (data, at) => data.getUint8(at)],
  float16: [2, (data, at) => fromHalf(data.getUint16(at, true))],
  float32: [4, (data, at) => data.getFloat32(at, true)],
};

/**
 * Read an array that Python packed (`pack_floats`, `pack_bytes`): little endian, float32, float16 or
 * uint8.
 *
 * @param {{data: DataView, dtype: string, shape: number[]} | undefined} packed
 * @param {string} what Its name in an error.
 * @returns {Float32Array}
 */
export function unpack(packed, what = "an array") {
  need(packed?.data instanceof DataView, `${what} has not arrived`);
  const { data, dtype, shape } = packed;
  need(dtype in READERS, `${what} is ${dtype}, which is not known`);
  const [size, read] = READERS[dtype];
  const n = shape.reduce((product, side) => product * side, 1);
  need(data.byteLength === n * size, `${what} has ${data.byteLength} bytes, not ${n * size}`);
  const out = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    out[i] = read(data, size * i);
    need(Number.isFinite(out[i]), `${what} holds a number that is not finite`);
  }
  return out;
}
