import { affine } from "./affine.js";
import { need } from "./checks.js";
import { unpack } from "./packing.js";
import { softmax } from "./softmax.js";

/** The middle of the codes of a weight: the code of 0. */
const ZERO = 127;

/** `fmtutor.networks.tokens.TokenTransformer`, as `fmtutor.widgets.token_network` makes it light. */
export class TokenTransformer {
  /**
   * @param {{tokens: number, length: number, width: number, depth: number, heads: number,
   *   hidden: number}} architecture
   * @param {Float32Array} weights Of all matrices, flat: tokens and places, then of each block
   *   and of the last layer.
   * @param {Float32Array} biases Of the same layers.
   */
  constructor(architecture, weights, biases) {
    Object.assign(this, architecture);
    const { tokens, length, width, depth, heads, hidden } = architecture;
    let [at, from] = [0, 0];
    const cut = (size) => weights.subarray(at, (at += size));
    const linear = (nin, nout) => {
      const w = cut(nin * nout);
      return { nin, nout, w, b: biases.subarray(from, (from += nout)) };
    };
    this.token = cut((tokens + 1) * width);
    this.place = cut(length * width);
    this.blocks = Array.from({ length: depth }, () => ({
      qkv: linear(width, 3 * width),
      out: linear(width, width),
      mlp: [linear(width, hidden), linear(hidden, width)],
    }));
    this.last = linear(width, tokens);
    need(width % heads === 0, "the heads do not share the width");
    const fits = at === weights.length && from === biases.length;
    need(fits, "the weights and biases do not fit the architecture");
    this.h = new Float32Array(length * width);
    this.x = new Float32Array(length * width);
    this.all = new Float32Array(length * 3 * width);
    this.inner = new Float32Array(length * hidden);
    this.found = new Float32Array(length * width);
  }

  /** Read a network that Python packed (`pack_token_network`). */
  static unpack(packed) {
    need(packed?.architecture, "the network has not arrived");
    const { tokens, length, width, depth, hidden } = packed.architecture;
    const [codes, steps, biases] = ["codes", "steps", "biases"].map((name) =>
      unpack(packed[name], `the network's ${name}`),
    );
    // The rows of all matrices, with as many weights each as the layer has inputs.
    const rows = [...Array(tokens + 1 + length).fill(width)];
    for (let k = 0; k < depth; k++)
      for (const [nout, nin] of [[4 * width + hidden, width], [width, hidden]]) // prettier-ignore
        rows.push(...Array(nout).fill(nin));
    rows.push(...Array(tokens).fill(width));
    need(rows.length === steps.length, "the network's steps do not fit its rows");
    const weights = new Float32Array(codes.length);
    let i = 0;
    rows.forEach((nin, row) => {
      for (let j = 0; j < nin; j++, i++) weights[i] = (codes[i] - ZERO) * steps[row];
    });
    need(i === codes.length, `a network of this shape has ${i} weights, not ${codes.length}`);
    return new TokenTransformer(packed.architecture, weights, biases);
  }

  /**
   * The logits of one sequence, `[length tokens]`.
   *
   * @param {ArrayLike<number>} sequence Tokens, `tokens` itself for the mask.
   * @param {Float32Array} out
   */
  forward(sequence, out) {
    const { length, width, tokens, token, place, h, x, inner } = this;
    for (let i = 0; i < length; i++)
      for (let j = 0; j < width; j++)
        h[i * width + j] = token[sequence[i] * width + j] + place[i * width + j];
    for (const { qkv, out: mix, mlp } of this.blocks) {
      this.normalise();
      this.attend(qkv);
      this.add(this.found, mix);
      this.normalise();
      const [first, second] = mlp;
      affine(x, 0, first.w, first.b, inner, 0, length, first.nin, first.nout);
      gelu(inner);
      this.add(inner, second);
    }
    this.normalise();
    affine(x, 0, this.last.w, this.last.b, out, 0, length, width, tokens);
  }

  /** Write into x each row of h, less its mean and over its spread. */
  normalise() {
    const { h, x, length, width } = this;
    for (let i = 0; i < length * width; i += width) {
      let [sum, squares] = [0, 0];
      for (let j = i; j < i + width; j++) sum += h[j];
      const mean = sum / width;
      for (let j = i; j < i + width; j++) squares += (h[j] - mean) ** 2;
      const scale = 1 / Math.sqrt(squares / width + 1e-5);
      for (let j = i; j < i + width; j++) x[j] = (h[j] - mean) * scale;
    }
  }

  /** Write into `found` what each place finds when it looks at all of them. */
  attend(qkv) {
    const { x, all, found, length, width, heads } = this;
    affine(x, 0, qkv.w, qkv.b, all, 0, length, width, 3 * width);
    const size = width / heads;
    found.fill(0);
    const shares = new Float64Array(length);
    for (let head = 0; head < heads; head++) {
      const at = (i, part) => i * 3 * width + part * width + head * size;
      for (let i = 0; i < length; i++) for (const part of [0, 1]) unit(all, at(i, part), size);
      for (let i = 0; i < length; i++) {
        for (let k = 0; k < length; k++) {
          shares[k] = 0;
          for (let j = 0; j < size; j++) shares[k] += all[at(i, 0) + j] * all[at(k, 1) + j];
          shares[k] /= Math.sqrt(size);
        }
        softmax(shares);
        for (let k = 0; k < length; k++)
          for (let j = 0; j < size; j++)
            found[i * width + head * size + j] += shares[k] * all[at(k, 2) + j];
      }
    }
  }

  /** Add what a layer makes of some rows to h. */
  add(rows, { w, b, nin, nout }) {
    affine(rows, 0, w, b, this.x, 0, this.length, nin, nout);
    for (let i = 0; i < this.h.length; i++) this.h[i] += this.x[i];
  }
}

/** Divide so many numbers by the root of their mean square. */
function unit(values, at, size) {
  let squares = 0;
  for (let j = at; j < at + size; j++) squares += values[j] ** 2;
  const scale = 1 / Math.sqrt(squares / size + 2 ** -23);
  for (let j = at; j < at + size; j++) values[j] *= scale;
}

/** The activation between the layers: ½v (1 + tanh(√(2/π) (v + 0.044715 v³))), in place. */
function gelu(values) {
  const c = 2 * Math.sqrt(2 / Math.PI);
  for (let i = 0; i < values.length; i++) {
    const v = values[i];
    values[i] = v / (1 + Math.exp(-c * (v + 0.044715 * v * v * v)));
  }
}
