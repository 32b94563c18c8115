import { affine } from "./affine.js";
import { need } from "./checks.js";
import { unpack } from "./packing.js";
import { silu } from "./silu.js";

/**
 * A network's sizes, as `pack_network` writes them.
 *
 * @typedef {{dim: number, width: number, depth: number, time_dim: number, classes: number,
 *   frequencies: number[]}} Architecture
 */

/** `fmtutor.networks.MLP`: the point, Fourier features of time and perhaps a label in, v out. */
export class MLP {
  /**
   * @param {Architecture} architecture
   * @param {Float32Array} params All parameters, flat, in the order of torch's `parameters()`.
   */
  constructor(architecture, params) {
    Object.assign(this, architecture);
    const { dim, width, depth, time_dim, classes } = architecture;
    this.nin = dim + time_dim * (classes ? 2 : 1);
    this.params = params;
    let at = classes ? (classes + 1) * time_dim : 0;
    this.labels = params.subarray(0, at);
    this.layers = [];
    for (let l = 0; l <= depth; l++) {
      const [nin, nout] = [l ? width : this.nin, l < depth ? width : dim];
      const w = params.subarray(at, at + nin * nout);
      const b = params.subarray(at + nin * nout, at + (nin + 1) * nout);
      this.layers.push({ at, nin, nout, w, b });
      at += (nin + 1) * nout;
    }
    need(params.length === at, `a network of this shape has ${at} weights, not ${params.length}`);
    this.features = new Float32Array(this.nin);
    this.bias = new Float32Array(width);
    this.pointWeights = new Float32Array(width * dim);
    this.scratch = [new Float32Array(MLP.ROWS * width), new Float32Array(MLP.ROWS * width)];
  }

  /** Read a network that Python packed (`pack_network`). */
  static unpack(packed) {
    need(packed, "the network has not arrived");
    return new MLP(packed.architecture, unpack(packed.weights, "the network"));
  }

  /**
   * A network with torch's first weights: uniform within 1/√nin; labels standard normal.
   *
   * @param {Architecture} architecture
   * @param {Random} random
   */
  static initial(architecture, random) {
    const { dim, width, depth, time_dim, classes } = architecture;
    const nin = dim + time_dim * (classes ? 2 : 1);
    const labels = classes ? (classes + 1) * time_dim : 0;
    const hidden = (nin + 1) * width + (depth - 1) * (width + 1) * width;
    const mlp = new MLP(architecture, new Float32Array(labels + hidden + (width + 1) * dim));
    random.normals(mlp.labels);
    for (const layer of mlp.layers) {
      const bound = 1 / Math.sqrt(layer.nin);
      for (const values of [layer.w, layer.b])
        for (let i = 0; i < values.length; i++) values[i] = bound * (2 * random.uniform() - 1);
    }
    return mlp;
  }

  /** Write the features of a time and a label behind `at`: cos, sin, label. */
  embed(t, label, out, at) {
    const half = this.frequencies.length;
    for (let j = 0; j < half; j++) {
      const angle = 2 * Math.PI * this.frequencies[j] * t;
      out[at + j] = Math.cos(angle);
      out[at + half + j] = Math.sin(angle);
    }
    const row = label * this.time_dim;
    for (let j = 0; this.classes && j < this.time_dim; j++)
      out[at + 2 * half + j] = this.labels[row + j];
  }

  /**
   * Velocities at points of one common time and label.
   *
   * Time and label are the same for all points, so they only move the first layer's bias.
   *
   * @param {Floats} x Points `[n d]`.
   * @param {number} t
   * @param {Floats} out Velocities `[n d]`.
   * @param {number} label One of 0, ..., classes; by default the null label.
   */
  forward(x, t, out, label = this.classes) {
    const { dim, width, nin, features, bias, pointWeights } = this;
    const [first, ...rest] = this.layers;
    features.fill(0, 0, dim);
    this.embed(t, label, features, dim);
    affine(features, 0, first.w, first.b, bias, 0, 1, nin, width);
    for (let o = 0; o < width; o++)
      for (let i = 0; i < dim; i++) pointWeights[o * dim + i] = first.w[o * nin + i];
    const n = out.length / dim;
    for (let row = 0; row < n; row += MLP.ROWS) {
      const rows = Math.min(MLP.ROWS, n - row);
      let [a, b] = this.scratch;
      affine(x, row * dim, pointWeights, bias, a, 0, rows, dim, width);
      for (const layer of rest) {
        silu(a, rows * width);
        const last = layer.nout === dim && layer === rest[rest.length - 1];
        affine(a, 0, layer.w, layer.b, last ? out : b, last ? row * dim : 0, rows, width, layer.nout);
        [a, b] = [b, a];
      }
    }
  }

  /**
   * @param {number} label
   * @returns {Field} The field of one label.
   */
  field(label = this.classes) {
    return (x, t, out) => this.forward(x, t, out, label);
  }
}
/** Rows that pass through the network together: their activations stay in the fastest cache. */
MLP.ROWS = 32;
