/**
 * What every live figure is made of: numerics first, drawing and controls after.
 *
 * The numerics know nothing of a page: they run in Node, in a page and in a Web Worker, and the
 * tests hold them against the Python package. Points are rows of a flat typed array, `[n d]`. A
 * field is a function `(x, t, out)`: it reads points, takes one time for all of them, and writes
 * velocities. Nothing that runs once a frame allocates.
 *
 * Python joins this file with a figure's own file (base.py), so that each figure is one module.
 *
 * @typedef {Float32Array | Float64Array} Floats
 * @typedef {(x: Floats, t: number, out: Floats) => void} Field
 */

// ---- Random numbers -----------------------------------------------------------------------------

/**
 * Seeded random numbers: xoshiro128** (Blackman and Vigna, 2018), seeded by splitmix32.
 *
 * `random.py` is its twin: the same seed gives the same uniform numbers to the last bit, and the
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

// ---- Checks and data from Python ----------------------------------------------------------------

/**
 * Throw where something a figure rests on does not hold; the figure then shows its picture.
 *
 * @param {unknown} condition
 * @param {string} message
 */
export function need(condition, message) {
  if (!condition) throw new Error(message);
}

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

// ---- The network --------------------------------------------------------------------------------

/**
 * y = x wᵀ + b for rows of x: the one kernel of the network, forward and backward.
 *
 * Two rows and four outputs at a time: eight sums stay in registers, and each number loaded is
 * used more than once.
 *
 * @param {Floats} x Rows `[n nin]`, from element `x0` on.
 * @param {Floats} w `[nout nin]`
 * @param {Floats | null} b `[nout]`; null is zero.
 * @param {Floats} y Rows `[n nout]`, from element `y0` on.
 */
function affine(x, x0, w, b, y, y0, n, nin, nout) {
  const rows = n & ~1;
  const columns = nout & ~3;
  for (let r = 0; r < rows; r += 2) {
    for (let o = 0; o < columns; o += 4) {
      let a0 = b ? b[o] : 0;
      let a1 = b ? b[o + 1] : 0;
      let a2 = b ? b[o + 2] : 0;
      let a3 = b ? b[o + 3] : 0;
      let c0 = a0;
      let c1 = a1;
      let c2 = a2;
      let c3 = a3;
      let j = o * nin;
      const begin = x0 + r * nin;
      for (let i = begin; i < begin + nin; i++, j++) {
        const p = x[i];
        const q = x[i + nin];
        const w0 = w[j];
        const w1 = w[j + nin];
        const w2 = w[j + 2 * nin];
        const w3 = w[j + 3 * nin];
        a0 += w0 * p;
        a1 += w1 * p;
        a2 += w2 * p;
        a3 += w3 * p;
        c0 += w0 * q;
        c1 += w1 * q;
        c2 += w2 * q;
        c3 += w3 * q;
      }
      const k = y0 + r * nout + o;
      y[k] = a0;
      y[k + 1] = a1;
      y[k + 2] = a2;
      y[k + 3] = a3;
      y[k + nout] = c0;
      y[k + nout + 1] = c1;
      y[k + nout + 2] = c2;
      y[k + nout + 3] = c3;
    }
  }
  affineEdge(x, x0, w, b, y, y0, 0, rows, columns, nin, nout);
  affineEdge(x, x0, w, b, y, y0, rows, n, 0, nin, nout);
}

/** The rows and columns that do not fill a block of `affine`. */
function affineEdge(x, x0, w, b, y, y0, firstRow, endRow, firstColumn, nin, nout) {
  for (let r = firstRow; r < endRow; r++) {
    for (let o = firstColumn; o < nout; o++) {
      let sum = b ? b[o] : 0;
      for (let i = 0; i < nin; i++) sum += w[o * nin + i] * x[x0 + r * nin + i];
      y[y0 + r * nout + o] = sum;
    }
  }
}

/** SiLU(x) = x/(1 + e⁻ˣ) on [−16, 16] in steps of 1/256: exp would take as long as a layer. */
const SILU = Float64Array.from({ length: 8194 }, (_, i) => {
  const x = i / 256 - 16;
  return x / (1 + Math.exp(-x));
});

/** Apply SiLU to the first n numbers, by linear interpolation, with an error below 10⁻⁶. */
function silu(a, n) {
  for (let i = 0; i < n; i++) {
    const x = a[i];
    if (x >= 16) continue;
    const place = (x + 16) * 256;
    const j = place | 0;
    a[i] = x <= -16 ? 0 : SILU[j] + (place - j) * (SILU[j + 1] - SILU[j]);
  }
}

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

/**
 * Classifier-free guidance, u + scale (u_c − u), as `fmtutor.guided`.
 *
 * @param {Field} conditional
 * @param {Field} unconditional
 * @param {() => number} scale Asked at each evaluation, so that a slider may move it.
 * @param {number} size Numbers in the largest array of points.
 * @returns {Field}
 */
export function guided(conditional, unconditional, scale, size) {
  const kept = new Float64Array(size);
  return (x, t, out) => {
    const s = scale();
    unconditional(x, t, out);
    if (s === 0) return;
    const u = out.length === size ? kept : kept.subarray(0, out.length);
    u.set(out);
    conditional(x, t, out);
    for (let i = 0; i < out.length; i++) out[i] = u[i] + s * (out[i] - u[i]);
  };
}

// ---- Paths --------------------------------------------------------------------------------------

/**
 * The schedules of `fmtutor.paths`: x_t = α x1 + σ x0.
 *
 * @typedef {{name: string, alpha: (t: number) => number, sigma: (t: number) => number,
 *   dAlpha: (t: number) => number, dSigma: (t: number) => number,
 *   halfDVariance: (t: number) => number}} Path
 */

/** @returns {Path} α = t, σ = 1 − (1 − σ_min) t. */
export function condOT(sigmaMin = 0) {
  const sigma = (t) => 1 - t + sigmaMin * t;
  const slope = sigmaMin - 1;
  return {
    name: "CondOT",
    alpha: (t) => t,
    sigma,
    dAlpha: () => 1,
    dSigma: () => slope,
    halfDVariance: (t) => slope * sigma(t),
  };
}

/** @returns {Path} α = sin(πt/2), σ = cos(πt/2). */
export function cosine() {
  const alpha = (t) => Math.sin(0.5 * Math.PI * t);
  const sigma = (t) => Math.sin(0.5 * Math.PI * (1 - t));
  return {
    name: "Cosine",
    alpha,
    sigma,
    dAlpha: (t) => 0.5 * Math.PI * sigma(t),
    dSigma: (t) => -0.5 * Math.PI * alpha(t),
    halfDVariance: (t) => -0.5 * Math.PI * alpha(t) * sigma(t),
  };
}

/** @returns {Path} α = exp(−½ ∫_t^1 β) with β linear, σ = √(1 − α²); σ' diverges at t = 1. */
export function variancePreserving(betaMin = 0.1, betaMax = 20) {
  const integral = (t) => (1 - t) * betaMin + 0.5 * (1 - t) ** 2 * (betaMax - betaMin);
  const alpha = (t) => Math.exp(-0.5 * integral(t));
  const sigma = (t) => Math.sqrt(-Math.expm1(-integral(t)));
  const dAlpha = (t) => 0.5 * (betaMin + (1 - t) * (betaMax - betaMin)) * alpha(t);
  const halfDVariance = (t) => -alpha(t) * dAlpha(t);
  return {
    name: "VariancePreserving",
    alpha,
    sigma,
    dAlpha,
    dSigma: (t) => halfDVariance(t) / sigma(t),
    halfDVariance,
  };
}

/**
 * The path that Python described (`pack_path`).
 *
 * @returns {Path}
 */
export function unpackPath(packed) {
  const { name, ...settings } = packed ?? {};
  if (name === "CondOT") return condOT(settings.sigma_min);
  if (name === "Cosine") return cosine();
  if (name === "VariancePreserving")
    return variancePreserving(settings.beta_min, settings.beta_max);
  throw new Error(`a path called ${name} is not known`);
}

// ---- Exact fields -------------------------------------------------------------------------------

/** Turn logits into weights that sum to one, in place. */
export function softmax(logits) {
  let top = -Infinity;
  for (const value of logits) top = Math.max(top, value);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += logits[i] = Math.exp(logits[i] - top);
  for (let i = 0; i < logits.length; i++) logits[i] /= sum;
}

/** The exact marginal field of a finite data set: `fmtutor.EmpiricalField`. */
export class EmpiricalField {
  /**
   * @param {Path} path σ must stay above 0 at every time asked.
   * @param {Floats} data Points `[n d]`; they may be moved afterwards.
   */
  constructor(path, data, dim = 2) {
    Object.assign(this, { path, data, dim });
    this.weights = new Float64Array(data.length / dim);
    this.mean = new Float64Array(dim);
  }

  /**
   * Posterior weights of the data at one point, the softmax of −‖x − α x1‖²/(2σ²).
   *
   * @param {Floats} x A point, from element `at` on.
   * @returns {Float64Array} `[n]`, overwritten by the next call.
   */
  posterior(x, t, at = 0) {
    const { data, dim, weights } = this;
    const alpha = this.path.alpha(t);
    const scale = -0.5 / this.path.sigma(t) ** 2;
    for (let i = 0; i < weights.length; i++) {
      let square = 0;
      for (let j = 0; j < dim; j++) square += (x[at + j] - alpha * data[i * dim + j]) ** 2;
      weights[i] = scale * square;
    }
    softmax(weights);
    return weights;
  }

  /**
   * E[x1 | x_t = x] at one point.
   *
   * @returns {Float64Array} `[d]`, overwritten by the next call.
   */
  posteriorMean(x, t, at = 0) {
    const { data, dim, mean } = this;
    const weights = this.posterior(x, t, at);
    mean.fill(0);
    for (let i = 0; i < weights.length; i++)
      for (let j = 0; j < dim; j++) mean[j] += weights[i] * data[i * dim + j];
    return mean;
  }

  /**
   * u_t(x) = (σ'/σ)(x − α m) + α' m with the posterior mean m.
   *
   * @type {Field}
   */
  velocity = (x, t, out) => {
    const { path, dim } = this;
    const [alpha, dAlpha] = [path.alpha(t), path.dAlpha(t)];
    const ratio = path.dSigma(t) / path.sigma(t);
    for (let at = 0; at < out.length; at += dim) {
      const mean = this.posteriorMean(x, t, at);
      for (let j = 0; j < dim; j++)
        out[at + j] = ratio * (x[at + j] - alpha * mean[j]) + dAlpha * mean[j];
    }
  };
}

/** Isotropic Gaussians and all their marginals in closed form: `fmtutor.GaussianMixture`. */
export class GaussianMixture {
  /**
   * @param {Path} path
   * @param {Floats} means `[k d]`
   * @param {Floats} stds `[k]`
   * @param {Floats} weights `[k]`; they are divided by their sum.
   */
  constructor(path, means, stds, weights, dim = 2) {
    const total = weights.reduce((sum, w) => sum + w, 0);
    Object.assign(this, { path, means, stds, dim });
    this.logWeights = Float64Array.from(weights, (w) => Math.log(w / total));
    this.posterior = new Float64Array(stds.length);
  }

  /** Read a mixture that Python packed (`pack_mixture`). */
  static unpack(packed, path) {
    need(packed, "the mixture has not arrived");
    const [means, stds, weights] = ["means", "stds", "weights"].map((k) => unpack(packed[k], k));
    return new GaussianMixture(path, means, stds, weights, means.length / stds.length);
  }

  /** The mixture of some components alone: the class-conditional distribution. */
  only(components) {
    const { means, stds, logWeights, dim } = this;
    const rows = components.flatMap((k) => [...means.subarray(k * dim, (k + 1) * dim)]);
    const pick = (values) => Float64Array.from(components, (k) => values[k]);
    const weights = pick(logWeights).map(Math.exp);
    return new GaussianMixture(this.path, Float64Array.from(rows), pick(stds), weights, dim);
  }

  /** V_k = α² s_k² + σ². */
  variance(k, t) {
    return (this.path.alpha(t) * this.stds[k]) ** 2 + this.path.sigma(t) ** 2;
  }

  /** Fill `posterior` with log w_k + log N(x; α m_k, V_k I). */
  logJoint(x, t, at) {
    const { means, dim, logWeights, posterior } = this;
    const alpha = this.path.alpha(t);
    for (let k = 0; k < posterior.length; k++) {
      const variance = this.variance(k, t);
      let square = 0;
      for (let j = 0; j < dim; j++) square += (x[at + j] - alpha * means[k * dim + j]) ** 2;
      posterior[k] =
        logWeights[k] - 0.5 * (square / variance + dim * Math.log(2 * Math.PI * variance));
    }
    return posterior;
  }

  /** @returns {number} log p_t(x) in nats at one point. */
  logProb(x, t, at = 0) {
    const joint = this.logJoint(x, t, at);
    let top = -Infinity;
    for (const value of joint) top = Math.max(top, value);
    let sum = 0;
    for (const value of joint) sum += Math.exp(value - top);
    return top + Math.log(sum);
  }

  /** @type {Field} u_t(x) = Σ_k r_k [α' m_k + ½(V_k'/V_k)(x − α m_k)]. */
  velocity = (x, t, out) => {
    const { path, stds } = this;
    const [alpha, dAlpha, half] = [path.alpha(t), path.dAlpha(t), path.halfDVariance(t)];
    this.mix(x, t, out, (k, mean, difference) => {
      const halfDV = alpha * dAlpha * stds[k] ** 2 + half;
      return dAlpha * mean + (halfDV / this.variance(k, t)) * difference;
    });
  };

  /** @type {Field} ∇log p_t(x) = −Σ_k r_k (x − α m_k)/V_k. */
  score = (x, t, out) => {
    this.mix(x, t, out, (k, _, difference) => -difference / this.variance(k, t));
  };

  /** Average what `of(k, m_k, x − α m_k)` says, coordinate by coordinate, over the posterior. */
  mix(x, t, out, of) {
    const { means, dim } = this;
    const alpha = this.path.alpha(t);
    for (let at = 0; at < out.length; at += dim) {
      const r = this.logJoint(x, t, at);
      softmax(r);
      for (let j = 0; j < dim; j++) {
        let sum = 0;
        for (let k = 0; k < r.length; k++) {
          const mean = means[k * dim + j];
          sum += r[k] * of(k, mean, x[at + j] - alpha * mean);
        }
        out[at + j] = sum;
      }
    }
  }
}

// ---- Solvers ------------------------------------------------------------------------------------

/** The explicit Runge-Kutta methods of `fmtutor.solvers`, each a Butcher tableau. */
export const TABLEAUX = {
  euler: { a: [[]], b: [1], order: 1 },
  midpoint: { a: [[], [0.5]], b: [0, 1], order: 2 },
  heun: { a: [[], [1]], b: [0.5, 0.5], order: 2 },
  rk4: { a: [[], [0.5], [0, 0.5], [0, 0, 1]], b: [1 / 6, 1 / 3, 1 / 3, 1 / 6], order: 4 },
};

/** Steps points along a field; the stages are allocated once. */
export class Solver {
  /**
   * @param {keyof typeof TABLEAUX} method
   * @param {number} size Numbers in the array of points.
   * @param {Float32ArrayConstructor | Float64ArrayConstructor} type The points' type.
   */
  constructor(method, size, type = Float32Array) {
    need(method in TABLEAUX, `a method called ${method} is not known`);
    this.tableau = TABLEAUX[method];
    this.stages = this.tableau.b.map(() => new type(size));
    this.at = new type(size);
  }

  /**
   * Advance points from t to t + h, in place.
   *
   * @param {Field} field
   * @param {Floats} x The points, or a part of them: no more numbers than `size`.
   */
  step(field, x, t, h) {
    const { a, b } = this.tableau;
    const fit = (array) => (array.length > x.length ? array.subarray(0, x.length) : array);
    const [stages, at] = [this.stages.map(fit), fit(this.at)];
    for (let i = 0; i < b.length; i++) {
      at.set(x);
      let c = 0;
      for (let j = 0; j < i; j++) {
        c += a[i][j];
        add(at, h * a[i][j], stages[j]);
      }
      field(at, Math.min(1, Math.max(0, t + c * h)), stages[i]);
    }
    for (let i = 0; i < b.length; i++) add(x, h * b[i], stages[i]);
  }
}

/** y += scale x. */
function add(y, scale, x) {
  if (scale === 0) return;
  for (let i = 0; i < y.length; i++) y[i] += scale * x[i];
}

/**
 * Follow a field in equal steps and keep every point: `fmtutor.sample(..., return_path=True)`.
 *
 * @template {Floats} T
 * @param {Field} field
 * @param {T} x0 Points `[n d]`; not changed.
 * @returns {T[]} The points at each of the `steps + 1` times.
 */
export function follow(field, x0, { method = "euler", steps = 100, t0 = 0, t1 = 1 } = {}) {
  const solver = new Solver(method, x0.length, x0.constructor);
  const path = [x0.slice()];
  const time = (k) => t0 + ((t1 - t0) * k) / steps;
  for (let k = 0; k < steps; k++) {
    const x = path[k].slice();
    solver.step(field, x, time(k), time(k + 1) - time(k));
    path.push(x);
  }
  return path;
}

// ---- Training -----------------------------------------------------------------------------------

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

// ---- Couplings and distances --------------------------------------------------------------------

/** @returns {Float64Array} ‖a_i − b_j‖², `[n m]`. */
export function squaredDistances(a, b, dim = 2) {
  const [n, m] = [a.length / dim, b.length / dim];
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++)
      for (let k = 0; k < dim; k++) out[i * m + j] += (a[i * dim + k] - b[j * dim + k]) ** 2;
  return out;
}

/**
 * The permutation of least total cost, by shortest augmenting paths (Jonker and Volgenant), O(n³).
 *
 * @param {Floats} cost `[n n]`
 * @returns {Int32Array} The column of each row.
 */
export function assign(cost, n) {
  const rowPotential = new Float64Array(n + 1);
  const columnPotential = new Float64Array(n + 1);
  const rowOf = new Int32Array(n + 1).fill(-1); // of each column; column n is where a path starts
  const before = new Int32Array(n + 1);
  const slack = new Float64Array(n + 1);
  const reached = new Uint8Array(n + 1);
  for (let row = 0; row < n; row++) {
    rowOf[n] = row;
    slack.fill(Infinity);
    reached.fill(0);
    let column = n;
    while (rowOf[column] !== -1) {
      reached[column] = 1;
      const i = rowOf[column];
      let [least, next] = [Infinity, -1];
      for (let j = 0; j < n; j++) {
        if (reached[j]) continue;
        const reduced = cost[i * n + j] - rowPotential[i] - columnPotential[j];
        if (reduced < slack[j]) [slack[j], before[j]] = [reduced, column];
        if (slack[j] < least) [least, next] = [slack[j], j];
      }
      need(next >= 0, "a cost is not a number");
      for (let j = 0; j <= n; j++) {
        if (!reached[j]) slack[j] -= least;
        else {
          rowPotential[rowOf[j]] += least;
          columnPotential[j] -= least;
        }
      }
      column = next;
    }
    for (; column !== n; column = before[column]) rowOf[column] = rowOf[before[column]];
  }
  const result = new Int32Array(n);
  for (let j = 0; j < n; j++) result[rowOf[j]] = j;
  return result;
}

/** @returns {number} Mean distance ‖a_i − b_j‖ over all pairs. */
function meanDistance(a, b, dim) {
  let sum = 0;
  for (let i = 0; i < a.length; i += dim) {
    for (let j = 0; j < b.length; j += dim) {
      let square = 0;
      for (let k = 0; k < dim; k++) square += (a[i + k] - b[j + k]) ** 2;
      sum += Math.sqrt(square);
    }
  }
  return sum / ((a.length / dim) * (b.length / dim));
}

/** @returns {{mean: number[], spread: number}} The mean and the root mean square distance to it. */
export function moments(x, dim = 2) {
  const n = x.length / dim;
  const mean = Array(dim).fill(0);
  for (let i = 0; i < x.length; i++) mean[i % dim] += x[i] / n;
  let square = 0;
  for (let i = 0; i < x.length; i++) square += (x[i] - mean[i % dim]) ** 2 / n;
  return { mean, spread: Math.sqrt(square) };
}

/** @returns {number} √(2 E‖a − b‖ − E‖a − a'‖ − E‖b − b'‖): `fmtutor.metrics.energy_distance`. */
export function energyDistance(a, b, dim = 2) {
  const square = 2 * meanDistance(a, b, dim) - meanDistance(a, a, dim) - meanDistance(b, b, dim);
  return Math.sqrt(Math.max(0, square));
}

// ---- Colours ------------------------------------------------------------------------------------

/** The house palette: `fmtutor.plotting.COLORS`, by what a colour stands for. */
export const COLORS = {
  noise: "#56B4E9",
  data: "#D55E00",
  velocity: "#009E73",
  learned: "#CC79A7",
  exact: "#808080",
  trajectory: "#999999",
  text: "#7A7A7A",
};

/** @returns {number[]} Red, green and blue of a colour written "#rrggbb". */
export function rgb(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** The colour a given share of the way from one kind to another: `fmtutor.plotting.blend`. */
export function blend(share, start = "noise", end = "data") {
  const [a, b] = [rgb(COLORS[start]), rgb(COLORS[end])];
  const mixed = a.map((x, i) => Math.round((1 - share) * x + share * b[i]));
  return `#${mixed.map((x) => x.toString(16).padStart(2, "0")).join("")}`;
}

/** A number as a reader sees it: a true minus sign, a fixed number of digits; huge ones by a power. */
export function number(value, digits = 2) {
  if (Math.abs(value) >= 1e6 && Number.isFinite(value)) return scientific(value, digits);
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

/** A number as digits and a power of ten. */
export function scientific(value, digits = 1) {
  const [factor, power] = value.toExponential(digits).split("e");
  return `${number(Number(factor), digits)}·10${raised(Number(power))}`;
}

/** A whole number as an exponent. */
export function raised(power) {
  return [...String(power)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
}

/** What stands lower or higher, and the characters that are written there. */
const SUBSCRIPTS = { from: "ₜ₀₁₂₃", to: "t0123", shift: 0.22 };
const SUPERSCRIPTS = { from: "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", to: "−0123456789", shift: -0.3 };

/**
 * Cut words into runs that stand on the line, below it or above it.
 *
 * @param {string} words
 * @returns {{text: string, shift: number}[]} Shifts are shares of the size of the letters.
 */
export function runs(words) {
  const found = [];
  for (const character of words) {
    const script = [SUBSCRIPTS, SUPERSCRIPTS].find(({ from }) => from.includes(character));
    const text = script ? script.to[script.from.indexOf(character)] : character;
    const shift = script?.shift ?? 0;
    if (found.at(-1)?.shift === shift) found.at(-1).text += text;
    else found.push({ text, shift });
  }
  return found;
}

// ---- Axes ---------------------------------------------------------------------------------------

/** Below this width, in CSS pixels, panels stand below each other. */
const NARROW = 480;

/** A rectangle of the stage with its own coordinates, and what can be drawn in it. */
export class Axes {
  /**
   * @param {LiveFigure} figure
   * @param {object} settings
   * @param {[number, number]} settings.x Range shown.
   * @param {[number, number]} settings.y Range shown.
   * @param {boolean} [settings.equal] One scale for both; the ranges grow to fill the rectangle.
   * @param {number[]} [settings.box] Left, top, right, bottom, as shares of the stage.
   * @param {number[]} [settings.narrowBox] The same on a narrow screen.
   * @param {number[]} [settings.margin] Left, top, right, bottom, in pixels.
   */
  constructor(figure, { x, y, equal = false, box = [0, 0, 1, 1], narrowBox = box, margin }) {
    Object.assign(this, { figure, x, y, equal, box, narrowBox });
    this.margin = margin ?? [6, 6, 6, 6];
    this.layout();
  }

  /** Fit the coordinates to the stage; the figure calls this before it draws. */
  layout() {
    const { width, height } = this.figure;
    const box = width < NARROW ? this.narrowBox : this.box;
    const [left, top, right, bottom] = this.margin;
    this.left = box[0] * width + left;
    this.top = box[1] * height + top;
    this.width = Math.max(1, (box[2] - box[0]) * width - left - right);
    this.height = Math.max(1, (box[3] - box[1]) * height - top - bottom);
    this.scaleX = this.width / (this.x[1] - this.x[0]);
    this.scaleY = this.height / (this.y[1] - this.y[0]);
    if (this.equal) this.scaleX = this.scaleY = Math.min(this.scaleX, this.scaleY);
    this.originX = this.left + this.width / 2 - (this.scaleX * (this.x[0] + this.x[1])) / 2;
    this.originY = this.top + this.height / 2 + (this.scaleY * (this.y[0] + this.y[1])) / 2;
  }

  /** @returns {number} Pixels from the left of the stage. */
  px(x) {
    return this.originX + this.scaleX * x;
  }

  /** @returns {number} Pixels from the top of the stage. */
  py(y) {
    return this.originY - this.scaleY * y;
  }

  /** @returns {[number, number]} The coordinates of a place on the stage, kept within the ranges. */
  locate(px, py) {
    const within = ([low, high], value) => Math.min(high, Math.max(low, value));
    return [
      within(this.x, (px - this.originX) / this.scaleX),
      within(this.y, (this.originY - py) / this.scaleY),
    ];
  }

  /** Whether a place on the stage lies in this rectangle. */
  contains(px, py) {
    const { left, top, width, height } = this;
    return px >= left && px <= left + width && py >= top && py <= top + height;
  }

  /**
   * Dots at points `[n 2]`.
   *
   * @param {Floats | number[]} xy
   * @param {{color?: string, radius?: number, alpha?: number}} style
   */
  points(xy, { color = COLORS.data, radius = 1.6, alpha = 0.7 } = {}) {
    const { ctx } = this.figure;
    ctx.globalAlpha = alpha;
    ctx.fillStyle = color;
    ctx.beginPath();
    for (let i = 0; i + 1 < xy.length; i += 2) {
      const [x, y] = [this.px(xy[i]), this.py(xy[i + 1])];
      ctx.moveTo(x + radius, y);
      ctx.arc(x, y, radius, 0, 2 * Math.PI);
    }
    ctx.fill();
    ctx.globalAlpha = 1;
  }

  /** A line through points `[n 2]`. */
  line(xy, { color = COLORS.trajectory, width = 1.5, alpha = 1, dash = [], close = false } = {}) {
    const { ctx } = this.figure;
    ctx.beginPath();
    for (let i = 0; i + 1 < xy.length; i += 2) ctx.lineTo(this.px(xy[i]), this.py(xy[i + 1]));
    if (close) ctx.closePath();
    this.stroke({ color, width, alpha, dash });
  }

  /** Stroke the current path. */
  stroke({ color = COLORS.trajectory, width = 1.5, alpha = 1, dash = [] } = {}) {
    const { ctx } = this.figure;
    ctx.globalAlpha = alpha;
    ctx.strokeStyle = color;
    ctx.lineWidth = width;
    ctx.lineJoin = ctx.lineCap = "round";
    ctx.setLineDash(dash);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.globalAlpha = 1;
  }

  /** The area between a line through points `[n 2]` and the height `base`. */
  area(xy, { base = 0, color = COLORS.data, alpha = 0.25 } = {}) {
    const { ctx } = this.figure;
    ctx.globalAlpha = alpha;
    ctx.fillStyle = color;
    ctx.beginPath();
    ctx.moveTo(this.px(xy[0]), this.py(base));
    for (let i = 0; i + 1 < xy.length; i += 2) ctx.lineTo(this.px(xy[i]), this.py(xy[i + 1]));
    ctx.lineTo(this.px(xy[xy.length - 2]), this.py(base));
    ctx.fill();
    ctx.globalAlpha = 1;
  }

  /**
   * Arrows at points `[n 2]` along velocities `[n 2]`.
   *
   * @param {{color?: string, scale?: number, width?: number, alpha?: number}} style `scale` is the
   *   length, in coordinates, of a velocity of one.
   */
  arrows(xy, uv, { color = COLORS.velocity, scale = 1, width = 1.4, alpha = 0.9 } = {}) {
    const { ctx } = this.figure;
    ctx.beginPath();
    for (let i = 0; i + 1 < xy.length; i += 2) {
      const [x, y] = [this.px(xy[i]), this.py(xy[i + 1])];
      const [dx, dy] = [scale * this.scaleX * uv[i], -scale * this.scaleY * uv[i + 1]];
      const length = Math.hypot(dx, dy);
      if (!(length > 0.5)) continue;
      const head = Math.min(3 + 2 * width, 0.5 * length) / length;
      ctx.moveTo(x, y);
      ctx.lineTo(x + dx, y + dy);
      ctx.moveTo(x + dx - head * (dx - 0.6 * dy), y + dy - head * (dy + 0.6 * dx));
      ctx.lineTo(x + dx, y + dy);
      ctx.lineTo(x + dx - head * (dx + 0.6 * dy), y + dy - head * (dy - 0.6 * dx));
    }
    this.stroke({ color, width, alpha });
  }

  /** A circle with its radius in coordinates. */
  ring(x, y, radius, { color = COLORS.noise, width = 1.5, alpha = 1, fill = 0 } = {}) {
    const { ctx } = this.figure;
    ctx.beginPath();
    const [rx, ry] = [radius * this.scaleX, radius * this.scaleY];
    ctx.ellipse(this.px(x), this.py(y), rx, ry, 0, 0, 2 * Math.PI);
    ctx.fillStyle = color;
    ctx.globalAlpha = fill;
    if (fill) ctx.fill();
    this.stroke({ color, width, alpha });
  }

  /** Words at a place, moved by pixels. */
  text(x, y, words, { color, align = "center", dx = 0, dy = 0, size = 13, bold = false } = {}) {
    const { ctx, theme } = this.figure;
    ctx.fillStyle = color ?? theme.ink;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    // A font's own subscripts are too small to be read on a phone.
    const parts = runs(words).map(({ text, shift }) => {
      const font = `${bold ? "600 " : ""}${shift ? 0.78 * size : size}px ${theme.font}`;
      ctx.font = font;
      return { text, font, down: shift * size, width: ctx.measureText(text).width };
    });
    const total = parts.reduce((sum, part) => sum + part.width, 0);
    let left = this.px(x) + dx - { left: 0, center: 0.5, right: 1 }[align] * total;
    for (const { text, font, down, width } of parts) {
      ctx.font = font;
      ctx.fillText(text, left, this.py(y) + dy + down);
      left += width;
    }
  }

  /** Words above the rectangle's top edge, inside it. */
  title(words, style = {}) {
    const middle = (this.left + this.width / 2 - this.originX) / this.scaleX;
    this.text(middle, (this.originY - this.top) / this.scaleY, words, { dy: 10, ...style });
  }

  /** Left and lower edge with ticks and names; it needs a margin of about 44 and 36 pixels. */
  frame({ xticks = [], yticks = [], xlabel = "", ylabel = "", digits = 1 } = {}) {
    const { ctx, theme } = this.figure;
    const [right, bottom] = [this.left + this.width, this.top + this.height];
    ctx.beginPath();
    ctx.moveTo(this.left, this.top);
    ctx.lineTo(this.left, bottom);
    ctx.lineTo(right, bottom);
    this.stroke({ color: theme.faint, width: 1 });
    ctx.fillStyle = theme.soft;
    ctx.font = `12px ${theme.font}`;
    ctx.textAlign = "center";
    ctx.textBaseline = "top";
    for (const x of xticks) ctx.fillText(number(x, digits), this.px(x), bottom + 5);
    ctx.fillText(xlabel, this.left + this.width / 2, bottom + 20);
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    for (const y of yticks) ctx.fillText(number(y, digits), this.left - 5, this.py(y));
    ctx.save();
    ctx.translate(this.left - 36, this.top + this.height / 2);
    ctx.rotate(-Math.PI / 2);
    ctx.textAlign = "center";
    ctx.fillText(ylabel, 0, 0);
    ctx.restore();
  }

  /** Draw only within the rectangle. */
  clip(draw) {
    const { ctx } = this.figure;
    ctx.save();
    ctx.beginPath();
    ctx.rect(this.left, this.top, this.width, this.height);
    ctx.clip();
    draw();
    ctx.restore();
  }

  /**
   * Values on a grid over the ranges, from transparent to a colour.
   *
   * @param {Floats} values `[rows columns]`, the lowest row first.
   */
  heat(values, columns, { color = COLORS.data, max = Math.max(...values), alpha = 0.9 } = {}) {
    const rows = values.length / columns;
    this.image ??= document.createElement("canvas");
    Object.assign(this.image, { width: columns, height: rows });
    const paint = this.image.getContext("2d");
    const pixels = paint.createImageData(columns, rows);
    const [red, green, blue] = rgb(color);
    for (let i = 0; i < values.length; i++) {
      const at = 4 * ((rows - 1 - Math.floor(i / columns)) * columns + (i % columns));
      const share = Math.min(1, Math.max(0, values[i] / max));
      pixels.data.set([red, green, blue, 255 * alpha * share], at);
    }
    paint.putImageData(pixels, 0, 0);
    const [left, top] = [this.px(this.x[0]), this.py(this.y[1])];
    const [right, bottom] = [this.px(this.x[1]), this.py(this.y[0])];
    this.figure.ctx.drawImage(this.image, left, top, right - left, bottom - top);
  }
}

// ---- The figure ---------------------------------------------------------------------------------

/** @returns {HTMLElement} A new element with a class, in a parent. */
function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent?.append(element);
  return element;
}

/**
 * The frame of a live figure: a canvas with points to drag, controls bound to the model's traits,
 * a line of text that screen readers announce, and an animation that rests when it is not seen.
 *
 * A fault anywhere in a figure stops that figure alone: whatever holds it is told by the event
 * "fm-fault" (the host of the book shows the picture again), else a sentence appears.
 */
export class LiveFigure {
  /**
   * @param {{model: any, el: HTMLElement, label: string}} settings The anywidget model, the place,
   *   and what the figure shows, in a sentence, for those who do not see it.
   */
  constructor({ model, el, label }) {
    Object.assign(this, { model, el, undo: [], axesList: [], handles: [], loops: [] });
    this.root = make("div", "fm-figure", el);
    this.root.style.setProperty("--fm-aspect", model.get("_aspect"));
    this.root.style.setProperty("--fm-narrow", model.get("_narrow"));
    this.stage = make("div", "fm-stage", this.root);
    this.canvas = make("canvas", "fm-canvas", this.stage);
    this.canvas.setAttribute("role", "img");
    this.ctx = this.canvas.getContext("2d");
    this.controls = make("div", "fm-controls", this.root);
    this.output = make("output", "fm-readout", this.root);
    this.output.setAttribute("aria-live", "polite");
    this.describe(label);
    this.visible = true;
    this.paint = () => {};
    this.measure();
    this.watch();
    this.redraw();
  }

  // -- What a figure asks for --

  /** Draw by this function: it is called with the context, at most once a frame. */
  onDraw(paint) {
    this.paint = paint;
    this.redraw();
  }

  /** Draw again, with the next frame. */
  redraw() {
    // A running animation draws each frame anyway.
    if (this.frame || this.playing || !this.visible || this.gone) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.guard(() => this.drawNow());
    });
  }

  /** @returns {Axes} */
  axes(settings) {
    const axes = new Axes(this, settings);
    this.axesList.push(axes);
    return axes;
  }

  /** The value of a trait. */
  get(trait) {
    return this.model.get(trait);
  }

  /** Set a trait; Python hears of it, during an animation when that pauses. */
  set(trait, value) {
    this.model.set(trait, value);
    if (!this.playing) this.model.save_changes();
  }

  /** Call a function when one of the traits changes, from whichever side, and draw again. */
  on(traits, react = () => {}) {
    for (const trait of [traits].flat()) {
      const listener = () =>
        this.guard(() => {
          react(this.get(trait));
          this.redraw();
        });
      this.model.on(`change:${trait}`, listener);
      this.undo.push(() => this.model.off(`change:${trait}`, listener));
    }
  }

  /** Change what the canvas is said to show. */
  describe(label) {
    this.canvas.setAttribute("aria-label", label);
  }

  /** Write the line of text below the controls; it is announced unless something moves. */
  say(text) {
    const live = this.playing ? "off" : "polite";
    if (this.output.getAttribute("aria-live") !== live) this.output.setAttribute("aria-live", live);
    if (this.output.textContent === text) return;
    const parts = text.split(/([ₜ₀₁₂₃]+)/).map((part, i) => {
      if (i % 2 === 0) return part;
      const subscript = make("span", "fm-subscript");
      subscript.textContent = part;
      return subscript;
    });
    this.output.replaceChildren(...parts);
  }

  /** Whether an animation is running. */
  get playing() {
    return this.loops.some((loop) => loop.playing);
  }

  // -- Controls: each is one cell, and Python's `_controls` says how many there are --

  /**
   * A slider, bound to a trait or to a function.
   *
   * @param {{label: string, min: number, max: number, step: number, trait?: string,
   *   value?: number, format?: (value: number) => string, onInput?: (value: number) => void}} s
   */
  slider({ label, min, max, step, trait, value, format = (v) => number(v), onInput }) {
    const cell = this.cell("label", label);
    const input = make("input", "fm-range", cell);
    Object.assign(input, { type: "range", min, max, step, ariaLabel: label });
    const shown = make("span", "fm-value", cell);
    shown.setAttribute("aria-hidden", "true");
    const show = (v) => {
      if (Number(input.value) !== v) input.value = v;
      shown.textContent = format(v);
      input.setAttribute("aria-valuetext", format(v));
    };
    return this.bind(input, "input", () => Number(input.value), { trait, value, onInput, show });
  }

  /**
   * A menu, bound to a trait or to a function.
   *
   * @param {{label: string, options: (string | [string, string])[], trait?: string,
   *   value?: string, onInput?: (value: string) => void}} s Each option is a value, or a value and
   *   the words shown for it.
   */
  menu({ label, options, trait, value, onInput }) {
    const cell = this.cell("label", label);
    const select = make("select", "fm-select", cell);
    select.ariaLabel = label; // alone: the words around a menu include its options
    const offer = (choices) =>
      select.replaceChildren(
        ...choices.map((choice) => {
          const [key, words] = Array.isArray(choice) ? choice : [choice, choice];
          return new Option(words, key);
        }),
      );
    offer(options);
    const show = (v) => (select.value = v);
    const read = () => select.value;
    return { ...this.bind(select, "change", read, { trait, value, onInput, show }), offer };
  }

  /** A box to tick, bound to a trait or to a function. */
  toggle({ label, trait, value, onInput }) {
    const cell = this.cell("label");
    const box = make("input", "fm-check", cell);
    box.type = "checkbox";
    make("span", "fm-words", cell).textContent = label;
    const show = (v) => (box.checked = v);
    return this.bind(box, "change", () => box.checked, { trait, value, onInput, show });
  }

  /**
   * A button, or several side by side in one cell.
   *
   * @param {...{label: string, onClick: () => void}} buttons
   * @returns {HTMLButtonElement[]}
   */
  buttons(...buttons) {
    const cell = this.cell("div");
    return buttons.map(({ label, onClick }) => {
      const button = make("button", "fm-button", cell);
      button.type = "button";
      button.textContent = label;
      this.listen(button, "click", onClick);
      return button;
    });
  }

  /**
   * An animation of the trait `time`, from 0 to 1 in so many seconds; after the end from 0 again.
   *
   * @param {number} duration
   */
  timeLoop(duration) {
    return this.loop(
      (seconds) => {
        this.set("time", Math.min(1, this.get("time") + seconds / duration));
        return this.get("time") < 1;
      },
      () => this.get("time") >= 1 && this.set("time", 0),
    );
  }

  /** A button that starts and pauses an animation. */
  playButton(loop, { play = "Play", pause = "Pause" } = {}) {
    const [button] = this.buttons({ label: play, onClick: () => loop.toggle() });
    loop.onChange = (playing) => {
      button.textContent = playing ? pause : play;
      button.classList.toggle("fm-playing", playing);
    };
    return button;
  }

  // -- Points to drag, and the pointer --

  /**
   * A point that is dragged with mouse, finger or arrow keys (with Shift in larger steps).
   *
   * It is a real element over the canvas, so it can be focused and its place is read out. The
   * figure draws whatever else belongs to the point.
   *
   * @param {object} s
   * @param {Axes} s.axes
   * @param {string} s.label
   * @param {() => [number, number]} s.at Where the point is.
   * @param {(x: number, y: number) => void} s.move Puts it elsewhere; should set a trait.
   * @param {string} [s.color]
   * @param {number} [s.step] Of an arrow key, in coordinates.
   * @param {string} [s.lock] "x" or "y": the only direction in which it moves.
   */
  handle({ axes, label, at, move, color = COLORS.data, step = 0.1, lock }) {
    const knob = make("button", "fm-handle", this.stage);
    knob.type = "button";
    knob.style.setProperty("--fm-color", color);
    knob.setAttribute("role", "slider");
    knob.setAttribute("aria-label", label);
    const go = (x, y) => {
      const [oldX, oldY] = at();
      move(lock === "y" ? oldX : x, lock === "x" ? oldY : y);
      this.redraw();
    };
    const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    this.listen(knob, "keydown", (event) => {
      if (!(event.key in keys)) return;
      event.preventDefault();
      const [dx, dy] = keys[event.key].map((d) => d * step * (event.shiftKey ? 5 : 1));
      const [x, y] = at();
      go(...axes.locate(axes.px(x + dx), axes.py(y + dy)));
    });
    this.listen(knob, "pointerdown", (event) => knob.setPointerCapture(event.pointerId));
    this.listen(knob, "pointermove", (event) => {
      if (knob.hasPointerCapture(event.pointerId)) go(...axes.locate(...this.place(event)));
    });
    const handle = { knob, axes, at };
    this.handles.push(handle);
    this.redraw();
    return handle;
  }

  /**
   * Follow the pointer over some axes: a mouse as it hovers, a finger as it drags.
   *
   * @param {Axes} axes
   * @param {(x: number, y: number, event: PointerEvent) => void} move
   * @param {{hover?: boolean}} settings Without hover a button must be held down.
   */
  pointer(axes, move, { hover = true } = {}) {
    this.canvas.classList.add("fm-active");
    const follow = (event) => {
      const place = this.place(event);
      if (!axes.contains(...place)) return;
      if (event.type === "pointermove" && !event.buttons && !hover) return;
      move(...axes.locate(...place), event);
      this.redraw();
    };
    this.listen(this.canvas, "pointerdown", follow);
    this.listen(this.canvas, "pointermove", follow);
  }

  // -- Motion --

  /**
   * An animation. It rests while the figure is out of view or its tab is hidden, and never starts
   * by itself.
   *
   * @param {(seconds: number) => boolean | void} step Advances by the time since the last frame;
   *   false ends it.
   * @param {() => void} start Called when it is started, to begin again after an end, say.
   */
  loop(step, start = () => {}) {
    const figure = this;
    const loop = {
      playing: false,
      onChange: () => {},
      play() {
        if (loop.playing || figure.gone) return;
        start();
        loop.playing = true;
        loop.onChange(true);
        loop.wake();
      },
      pause() {
        if (!loop.playing) return;
        loop.playing = false;
        cancelAnimationFrame(loop.frame);
        loop.frame = 0;
        loop.onChange(false);
        if (!figure.gone) figure.model.save_changes();
        figure.redraw();
      },
      toggle: () => (loop.playing ? loop.pause() : loop.play()),
      wake() {
        if (!loop.playing || loop.frame || !figure.visible) return;
        let last = performance.now();
        const tick = (now) =>
          figure.guard(() => {
            loop.frame = figure.visible ? requestAnimationFrame(tick) : 0;
            // After a long frame the motion goes on where it was; it does not jump.
            const seconds = Math.min(0.1, Math.max(0, now - last) / 1000);
            last = now;
            const more = step(seconds);
            if (more === false) loop.pause();
            else figure.drawNow();
          });
        loop.frame = requestAnimationFrame(tick);
      },
    };
    this.loops.push(loop);
    return loop;
  }

  /** Whether the reader asked for less motion. */
  get calm() {
    return matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  // -- Its life --

  /** Remove the figure and everything that watches; a figure's `render` returns this call. */
  dispose() {
    this.gone = true;
    for (const loop of this.loops) loop.pause();
    cancelAnimationFrame(this.frame);
    for (const undo of this.undo) undo();
    this.root.remove();
  }

  /** Run a part of the figure; a fault there ends the figure, not the page. */
  guard(run) {
    if (this.gone) return;
    try {
      run();
    } catch (fault) {
      this.fail(fault);
    }
  }

  /** End the figure with a reason. */
  fail(fault) {
    console.warn("A live figure stopped:", fault);
    const { el } = this;
    const event = new CustomEvent("fm-fault", { bubbles: true, cancelable: true, detail: fault });
    const nobodyHeard = el.dispatchEvent(event);
    this.dispose();
    if (nobodyHeard)
      make("p", "fm-sentence", el).textContent = `This figure stopped: ${fault.message}`;
  }

  /** Call a function on an event, guarded, until the figure is disposed of. */
  listen(target, type, react) {
    const listener = (event) => this.guard(() => react(event));
    target.addEventListener(type, listener);
    this.undo.push(() => target.removeEventListener(type, listener));
  }

  // -- Inside --

  /** Where an event is on the stage, in CSS pixels. */
  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  cell(tag, label) {
    const cell = make(tag, "fm-control", this.controls);
    if (label) make("span", "fm-label", cell).textContent = label;
    return cell;
  }

  /** Tie an input to a trait, or to a value of its own. */
  bind(input, type, read, { trait, value, onInput = () => {}, show }) {
    const control = { input, show };
    show(trait ? this.get(trait) : value);
    if (trait) this.on(trait, show);
    this.listen(input, type, () => {
      if (trait) this.set(trait, read());
      else show(read());
      onInput(read());
      this.redraw();
    });
    return control;
  }

  measure() {
    this.width = Math.max(1, this.stage.clientWidth);
    this.height = Math.max(1, this.stage.clientHeight);
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.width, this.height].map((side) => Math.round(side * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height)
      Object.assign(this.canvas, { width, height });
    this.ctx.setTransform(width / this.width, 0, 0, height / this.height, 0, 0);
  }

  readTheme() {
    const { color, fontFamily } = getComputedStyle(this.root);
    const [red, green, blue] = color.match(/[\d.]+/g).map(Number);
    const dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 128; // light ink, dark page
    const ink = (alpha) => `rgba(${red}, ${green}, ${blue}, ${alpha})`;
    // Black on white, white on black: what is exact.
    const exact = dark ? "#ffffff" : "#000000";
    this.theme = { dark, exact, ink: ink(1), soft: ink(0.75), faint: ink(0.35), font: fontFamily };
  }

  drawNow() {
    this.measure();
    if (!this.theme) this.readTheme();
    for (const axes of this.axesList) axes.layout();
    this.ctx.clearRect(0, 0, this.width, this.height);
    this.paint(this.ctx, this);
    for (const { knob, axes, at } of this.handles) {
      const [x, y] = at();
      // On whole pixels of the screen: between them a small disc is not round.
      const ratio = window.devicePixelRatio || 1;
      const [px, py] = [axes.px(x), axes.py(y)].map((p) => Math.round(p * ratio) / ratio);
      knob.style.transform = `translate(${px}px, ${py}px)`;
      knob.setAttribute("aria-valuenow", x);
      knob.setAttribute("aria-valuetext", `${number(x)}, ${number(y)}`);
    }
  }

  /** Follow size, theme and visibility. */
  watch() {
    const size = new ResizeObserver(() => this.redraw());
    size.observe(this.stage);
    let inView = true;
    const look = () => {
      this.visible = inView && !document.hidden;
      this.redraw();
      for (const loop of this.loops) loop.wake();
    };
    const sight = new IntersectionObserver((entries) => {
      inView = entries.at(-1).isIntersecting;
      look();
    });
    sight.observe(this.stage);
    this.listen(document, "visibilitychange", look);
    const restyle = () => {
      this.theme = null;
      this.redraw();
    };
    const theme = new MutationObserver(restyle);
    for (const element of [document.documentElement, document.body])
      theme.observe(element, { attributes: true });
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", restyle);
    this.undo.push(
      () => [size, sight, theme].forEach((observer) => observer.disconnect()),
      () => scheme.removeEventListener("change", restyle),
    );
  }
}

/**
 * The anywidget of a figure: `export default live("What it shows.", (fig) => { ... });`
 *
 * @param {string} label
 * @param {(fig: LiveFigure) => void} build Puts controls and drawing into a new figure.
 */
export function live(label, build) {
  return {
    render({ model, el }) {
      const fig = new LiveFigure({ model, el, label });
      fig.guard(() => build(fig));
      return () => fig.dispose();
    },
  };
}

/**
 * Start a Web Worker that holds this module and runs one of its functions with `self`.
 *
 * @param {any} model The source is its `_esm`: the module itself may be known under no address.
 * @param {string} entry The name of a function at the top of the figure's file.
 * @returns {Worker} End it with `terminate()`.
 */
export function spawn(model, entry) {
  const source = `${model.get("_esm")}\n;${entry}(self);`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  worker.addEventListener("message", () => URL.revokeObjectURL(url), { once: true });
  return worker;
}
