import { affine } from "./affine.js";
import { need } from "./checks.js";
import { unpack } from "./packing.js";
import { silu } from "./silu.js";

/** `fmtutor.networks.EGNN`: velocities of particles that turn with their positions. */
export class EGNN {
  /**
   * @param {{particles: number, dim: number, kinds: number[], width: number, depth: number,
   *   radial: number, reach: number, frequencies: number[]}} architecture
   * @param {Float32Array} params All parameters, flat, in the order of torch's `parameters()`.
   */
  constructor(architecture, params) {
    Object.assign(this, architecture);
    const { particles, kinds, width, depth, radial, frequencies } = architecture;
    let at = 0;
    const cut = (size) => params.subarray(at, (at += size));
    const linear = (nin, nout) => ({ nin, nout, w: cut(nin * nout), b: cut(nout) });
    this.kind = cut((Math.max(...kinds) + 1) * width);
    this.time = linear(2 * frequencies.length, width);
    this.layers = Array.from({ length: depth }, () => ({
      message: [linear(width + radial, width), linear(width, width)],
      update: [linear(2 * width, width), linear(width, width)],
      weight: linear(width, 1),
    }));
    need(params.length === at, `a network of this shape has ${at} weights, not ${params.length}`);
    this.pairs = [];
    for (let i = 0; i < particles; i++)
      for (let j = i + 1; j < particles; j++) this.pairs.push([i, j]);
    this.reserve(0);
  }

  /** Read a network that Python packed. */
  static unpack(packed) {
    need(packed?.weights, "the network has not arrived");
    return new EGNN(packed.architecture, unpack(packed.weights, "the network"));
  }

  /** Make room for the features of so many clouds. */
  reserve(clouds) {
    const { particles, width, radial, pairs } = this;
    this.clouds = clouds;
    const [rows, edges] = [clouds * particles, clouds * pairs.length];
    this.h = new Float64Array(rows * width);
    this.both = new Float64Array(rows * 2 * width);
    this.inner = new Float64Array(Math.max(rows, edges) * width);
    this.change = new Float64Array(rows * width);
    this.heard = new Float64Array(edges * (width + radial));
    this.m = new Float64Array(edges * width);
    this.weights = new Float64Array(edges);
    this.y = new Float64Array(rows * this.dim);
  }

  /** Write the velocities at positions `[b n d]` at one time. */
  forward = (x, t, out) => {
    const { particles, dim, width } = this;
    const clouds = x.length / (particles * dim);
    if (clouds !== this.clouds) this.reserve(clouds);
    const { m, weights, y } = this;
    this.begin(t);
    y.set(x);
    for (const { message, update, weight } of this.layers) {
      this.listen();
      this.pass(message, this.heard, m, weights.length);
      silu(m, m.length);
      affine(m, 0, weight.w, weight.b, weights, 0, weights.length, width, 1);
      this.collect();
      this.pass(update, this.both, this.change, clouds * particles);
      for (let i = 0; i < this.h.length; i++) this.h[i] += this.change[i];
      this.move();
    }
    for (let i = 0; i < out.length; i++) out[i] = y[i] - x[i];
  };

  /** Two layers with SiLU between them. */
  pass([first, second], rows, out, n) {
    affine(rows, 0, first.w, first.b, this.inner, 0, n, first.nin, first.nout);
    silu(this.inner, n * first.nout);
    affine(this.inner, 0, second.w, second.b, out, 0, n, second.nin, second.nout);
  }

  /** The first features of each particle: its kind and the time. */
  begin(t) {
    const { particles, kinds, kind, width, h, time, frequencies } = this;
    const angles = frequencies.map((f) => 2 * Math.PI * f * t);
    const features = [...angles.map(Math.cos), ...angles.map(Math.sin)];
    const told = new Float64Array(width);
    affine(features, 0, time.w, time.b, told, 0, 1, time.nin, width);
    for (let i = 0; i < h.length; i++) {
      const row = Math.floor(i / width);
      h[i] = kind[kinds[row % particles] * width + (i % width)] + told[i % width];
    }
  }

  /** Call with each pair: its row, its two particles' rows. */
  each(visit) {
    const { particles, pairs, clouds } = this;
    for (let cloud = 0, row = 0; cloud < clouds; cloud++)
      for (const [i, j] of pairs) visit(row++, cloud * particles + i, cloud * particles + j);
  }

  /** Write what each pair hears: the sum of its features, bumps of its distance. */
  listen() {
    const { h, y, dim, width, radial, reach, heard } = this;
    const spacing = reach / (radial - 1);
    this.each((row, a, b) => {
      let at = row * (width + radial);
      for (let k = 0; k < width; k++) heard[at++] = h[a * width + k] + h[b * width + k];
      let square = 1e-12; // far below every distance that counts
      for (let k = 0; k < dim; k++) square += (y[a * dim + k] - y[b * dim + k]) ** 2;
      const length = Math.sqrt(square) / spacing;
      for (let k = 0; k < radial; k++) heard[at++] = Math.exp(-0.5 * (length - k) ** 2);
    });
  }

  /** Write the features of each particle and the mean of the messages to it, side by side. */
  collect() {
    const { h, m, both, particles, width } = this;
    both.fill(0);
    for (let i = 0; i < h.length; i++)
      both[Math.floor(i / width) * 2 * width + (i % width)] = h[i];
    this.each((row, a, b) => {
      for (let k = 0; k < width; k++) {
        const share = m[row * width + k] / particles;
        both[(2 * a + 1) * width + k] += share;
        both[(2 * b + 1) * width + k] += share;
      }
    });
  }

  /** Move both particles of each pair along their difference as it is, before any has moved. */
  move() {
    const { y, dim, particles, weights } = this;
    const before = y.slice();
    this.each((row, a, b) => {
      for (let k = 0; k < dim; k++) {
        const step = (weights[row] / particles) * (before[a * dim + k] - before[b * dim + k]);
        y[a * dim + k] += step;
        y[b * dim + k] -= step;
      }
    });
  }
}
