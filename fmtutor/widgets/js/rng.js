/**
 * Seeded random numbers: xoshiro128** (Blackman and Vigna, 2018), seeded by splitmix32.
 *
 * `fmtutor/widgets/rng.py` is its twin: the same seed gives the same uniform numbers to the last bit, and the
 * same normal ones up to the last bit of log and cos.
 */
export class Random {
  /** @param {number} seed An integer, taken modulo 2³². */
  constructor(seed) {
    this.state = new Uint32Array(4);
    let z = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      z = (z + 0x9e3779b9) >>> 0;
      let s = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      s = Math.imul(s ^ (s >>> 15), 0x735a2d97);
      this.state[i] = s ^ (s >>> 15);
    }
    /** @type {number | null} The second of a pair of normal numbers, kept for the next call. */
    this.spare = null;
  }

  /** @returns {number} 32 random bits. */
  bits() {
    const s = this.state;
    const five = Math.imul(s[1], 5);
    const result = Math.imul((five << 7) | (five >>> 25), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** @returns {number} Uniform in (0, 1), the ends left out. */
  uniform() {
    return (this.bits() + 0.5) * 2 ** -32;
  }

  /**
   * @param {number} n
   * @returns {number} One of 0, ..., n − 1.
   */
  integer(n) {
    return Math.floor(this.uniform() * n);
  }

  /** @returns {number} Standard normal, by Box and Muller. */
  normal() {
    if (this.spare !== null) {
      const kept = this.spare;
      this.spare = null;
      return kept;
    }
    const radius = Math.sqrt(-2 * Math.log(this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /**
   * Fill an array with standard normal numbers.
   *
   * @template {Floats} T
   * @param {T} out
   * @returns {T}
   */
  normals(out) {
    for (let i = 0; i < out.length; i++) out[i] = this.normal();
    return out;
  }
}
