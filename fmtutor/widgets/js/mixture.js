import { need } from "./checks.js";
import { unpack } from "./packing.js";
import { softmax } from "./softmax.js";

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
