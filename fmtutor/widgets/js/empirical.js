import { softmax } from "./softmax.js";

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
