import { affine } from "./affine.js";
import { assign, squaredDistances } from "./couplings.js";
import { condOT } from "./paths.js";

/** @returns {Float32Array} The transpose `[m n]` of the first n rows of `a` `[n m]`, in `out`. */
function transpose(a, n, m, out) {
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) out[j * n + i] = a[i * m + j];
  return out;
}

/** The conditional loss of a batch, its gradient by hand, and Adam: `fmtutor.fit` in the page. */
export class Trainer {
  /**
   * @param {MLP} mlp Trained in place.
   * @param {{batch?: number, lr?: number, clip?: number}} settings Rows of a batch, learning rate,
   *   largest norm of a gradient (0: none).
   */
  constructor(mlp, { batch = 256, lr = 2e-3, clip = 1 } = {}) {
    Object.assign(this, { mlp, batch, lr, clip, steps: 0 });
    const size = mlp.params.length;
    this.gradient = new Float32Array(size);
    this.moments = [new Float64Array(size), new Float64Array(size)];
    const widest = Math.max(mlp.nin, mlp.width, mlp.dim);
    this.inputs = mlp.layers.map(({ nin }) => new Float32Array(batch * nin));
    this.outputs = mlp.layers.map(({ nout }) => new Float32Array(batch * nout));
    this.scratch = [0, 1, 2].map(() => new Float32Array(Math.max(batch, widest) * widest));
  }

  /**
   * Fill `gradient` with that of the mean of (v − u)² over all entries.
   *
   * @param {Floats} xt `[batch d]`
   * @param {Floats} t `[batch]`
   * @param {Floats} ut `[batch d]`
   * @param {ArrayLike<number> | null} labels `[batch]`
   * @returns {number} The loss.
   */
  lossAndGradient(xt, t, ut, labels = null) {
    const { mlp, batch, inputs, outputs } = this;
    const { dim, nin, classes, layers } = mlp;
    for (let r = 0; r < batch; r++) {
      for (let j = 0; j < dim; j++) inputs[0][r * nin + j] = xt[r * dim + j];
      mlp.embed(t[r], labels ? labels[r] : classes, inputs[0], r * nin + dim);
    }
    layers.forEach((layer, l) => {
      affine(inputs[l], 0, layer.w, layer.b, outputs[l], 0, batch, layer.nin, layer.nout);
      if (l + 1 === layers.length) return;
      const [z, a] = [outputs[l], inputs[l + 1]];
      for (let i = 0; i < z.length; i++) a[i] = z[i] / (1 + Math.exp(-z[i]));
    });
    const v = outputs[layers.length - 1];
    let loss = 0;
    for (let i = 0; i < v.length; i++) {
      const error = v[i] - ut[i];
      loss += error * error;
      v[i] = (2 * error) / v.length;
    }
    this.backward(labels);
    return loss / v.length;
  }

  /** From the gradient of the network's output, left in the last of `outputs`, to all others. */
  backward(labels) {
    const { mlp, batch, inputs, outputs, scratch } = this;
    this.gradient.fill(0);
    for (let l = mlp.layers.length - 1; l >= 0; l--) {
      const { at, nin, nout, w } = mlp.layers[l];
      const dz = outputs[l];
      const dw = this.gradient.subarray(at, at + nin * nout);
      const db = this.gradient.subarray(at + nin * nout, at + (nin + 1) * nout);
      const dzT = transpose(dz, batch, nout, scratch[0]);
      affine(dzT, 0, transpose(inputs[l], batch, nin, scratch[1]), null, dw, 0, nout, batch, nin);
      for (let i = 0; i < dz.length; i++) db[i % nout] += dz[i];
      if (l === 0 && !mlp.classes) continue;
      affine(dz, 0, transpose(w, nout, nin, scratch[1]), null, scratch[2], 0, batch, nout, nin);
      if (l === 0) this.labelGradient(scratch[2], labels);
      else this.throughSilu(scratch[2], outputs[l - 1]);
    }
  }

  /** dz = da SiLU'(z), written over z. */
  throughSilu(da, z) {
    for (let i = 0; i < z.length; i++) {
      const s = 1 / (1 + Math.exp(-z[i]));
      z[i] = da[i] * s * (1 + z[i] * (1 - s));
    }
  }

  /** Give each label's vector the gradients of the rows that read it. */
  labelGradient(dx, labels) {
    const { classes, time_dim, nin } = this.mlp;
    for (let r = 0; r < this.batch; r++) {
      const row = (labels ? labels[r] : classes) * time_dim;
      for (let j = 0; j < time_dim; j++)
        this.gradient[row + j] += dx[(r + 1) * nin - time_dim + j];
    }
  }

  /** One step of Adam with the gradient clipped, as `fit` takes it. */
  update() {
    const { gradient, lr, clip } = this;
    const { params } = this.mlp;
    const [m, s] = this.moments;
    this.steps += 1;
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    const scale = clip ? Math.min(1, clip / (norm + 1e-6)) : 1;
    const [c1, c2] = [1 - 0.9 ** this.steps, 1 - 0.999 ** this.steps];
    for (let i = 0; i < params.length; i++) {
      const g = scale * gradient[i];
      m[i] += 0.1 * (g - m[i]);
      s[i] += 0.001 * (g * g - s[i]);
      params[i] -= (lr * m[i]) / c1 / (Math.sqrt(s[i] / c2) + 1e-8);
    }
  }

  /**
   * Draw a batch and take one step.
   *
   * @param {Floats} data Points `[n d]`.
   * @param {Random} random
   * @param {{path?: Path, optimal?: boolean, labels?: ArrayLike<number> | null}} settings The
   *   path; whether to pair noise and data optimally within the batch; the data's labels.
   * @returns {number} The loss before the step.
   */
  step(data, random, { path = condOT(), optimal = false, labels = null } = {}) {
    const { dim } = this.mlp;
    const [n, size] = [this.batch, this.batch * dim];
    this.draw ??= { xt: new Float32Array(size), ut: new Float32Array(size), t: new Float32Array(n) };
    this.draw.x0 ??= new Float32Array(size);
    const { xt, ut, t, x0 } = this.draw;
    const rows = Array.from({ length: n }, () => random.integer(data.length / dim));
    random.normals(x0);
    const x1 = Float32Array.from({ length: size }, (_, i) => data[rows[(i / dim) | 0] * dim + (i % dim)]);
    const pair = optimal ? assign(squaredDistances(x0, x1, dim), n) : rows.keys();
    const order = [...pair];
    for (let r = 0; r < n; r++) {
      t[r] = random.uniform();
      for (let j = 0; j < dim; j++) {
        const [i, k] = [r * dim + j, order[r] * dim + j];
        xt[i] = path.alpha(t[r]) * x1[k] + path.sigma(t[r]) * x0[i];
        ut[i] = path.dAlpha(t[r]) * x1[k] + path.dSigma(t[r]) * x0[i];
      }
    }
    const chosen = labels && order.map((k) => labels[rows[k]]);
    const loss = this.lossAndGradient(xt, t, ut, chosen);
    this.update();
    return loss;
  }
}
