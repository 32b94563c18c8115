import { need } from "./checks.js";
import { softmax } from "./softmax.js";

/**
 * The entropic plan between two sets of n points, `fmtutor.entropic.entropic_plan`: rows and
 * columns are fitted in turn, by logarithms.
 *
 * @param {Floats} cost `[n n]`
 * @returns {Float64Array} `[n n]`, of sum 1.
 */
export function entropicPlan(cost, n, epsilon, { tol = 1e-4, most = 20000 } = {}) {
  const [f, g, terms] = [new Float64Array(n), new Float64Array(n), new Float64Array(n)];
  const logSum = () => {
    let [top, sum] = [-Infinity, 0];
    for (const value of terms) top = Math.max(top, value);
    for (const value of terms) sum += Math.exp(value - top);
    return top + Math.log(sum);
  };
  for (let k = 0; k < most; k++) {
    let error = 0;
    for (let j = 0; j < n; j++) {
      for (let i = 0; i < n; i++) terms[i] = (f[i] - cost[i * n + j]) / epsilon;
      const fresh = -epsilon * (logSum() + Math.log(n));
      // What column j had before it was fitted, less 1/n: the rows were right then.
      error += Math.abs(Math.expm1((g[j] - fresh) / epsilon)) / n;
      g[j] = fresh;
    }
    if (k > 0 && error <= tol) break;
    need(k + 1 < most && Number.isFinite(error), "the plan has not converged");
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) terms[j] = (g[j] - cost[i * n + j]) / epsilon;
      f[i] = -epsilon * (logSum() + Math.log(n));
    }
  }
  return cost.map((c, at) => Math.exp((f[Math.floor(at / n)] + g[at % n] - c) / epsilon));
}

/** Brownian bridges over all pairs with the weights of a plan: `exact_bridges.PairedPoints`. */
export class BridgedPairs {
  /**
   * @param {Floats} x0 `[n 2]`
   * @param {Floats} x1 `[n 2]`
   * @param {Floats} plan `[n n]`
   */
  constructor(x0, x1, plan, { sigma, width }) {
    Object.assign(this, { sigma, width, pairs: [] });
    const n = x0.length / 2;
    plan.forEach((mass, at) => {
      const [i, j] = [2 * Math.floor(at / n), 2 * (at % n)];
      // A pair of less mass than this cannot be seen in any mean.
      if (mass > 1e-14)
        this.pairs.push([x0[i], x0[i + 1], x1[j] - x0[i], x1[j + 1] - x0[i + 1], Math.log(mass)]);
    });
    this.weights = new Float64Array(this.pairs.length);
  }

  /** Velocity plus so many times the score, which is 0 for the ODE and σ²/2 for the SDE. */
  drift(share) {
    return (x, t, out) => {
      const { pairs, weights, sigma, width } = this;
      const square = width ** 2 + sigma ** 2 * t * (1 - t);
      const back = (0.5 * sigma ** 2 * (1 - 2 * t) - share) / square;
      for (let at = 0; at < out.length; at += 2) {
        pairs.forEach(([px, py, dx, dy, log], k) => {
          const [ox, oy] = [x[at] - px - t * dx, x[at + 1] - py - t * dy];
          weights[k] = log - (ox * ox + oy * oy) / (2 * square);
        });
        softmax(weights);
        out[at] = out[at + 1] = 0;
        pairs.forEach(([px, py, dx, dy], k) => {
          out[at] += weights[k] * (dx + back * (x[at] - px - t * dx));
          out[at + 1] += weights[k] * (dy + back * (x[at + 1] - py - t * dy));
        });
      }
    };
  }
}

/**
 * Follow dX = b dt + σ dW by the Euler-Maruyama method and keep every point.
 *
 * @param {Field} drift
 * @param {Float64Array} x0 `[n 2]`
 * @param {{normals: <T>(out: T) => T}} random
 */
export function followNoise(drift, x0, { sigma, steps, random }) {
  const [path, b] = [[x0.slice()], new Float64Array(x0.length)];
  for (let k = 0; k < steps; k++) {
    drift(path[k], k / steps, b);
    const noise = random.normals(new Float32Array(x0.length));
    path.push(path[k].map((x, i) => x + b[i] / steps + (sigma / Math.sqrt(steps)) * noise[i]));
  }
  return path;
}
