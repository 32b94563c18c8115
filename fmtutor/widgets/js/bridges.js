import { need } from "./checks.js";
import { softmax } from "./softmax.js";

/** A scaling beyond this goes into the potentials before anything over- or underflows. */
const LARGEST = 1e50;

/**
 * The entropic plan between two sets of n points, `fmtutor.entropic.entropic_plan`: columns and
 * rows are fitted in turn, by factors of a kernel that potentials have made well scaled.
 *
 * @param {Floats} cost `[n n]`
 * @returns {Float64Array} `[n n]`; its columns sum to 1/n, the errors of its rows to at most `tol`.
 */
export function entropicPlan(cost, n, epsilon, { tol = 1e-4, most = 20000 } = {}) {
  const [f, g, u, v] = Array.from({ length: 4 }, () => new Float64Array(n));
  let done = 0;
  for (;;) {
    sweep(f, g, cost, epsilon);
    const kernel = cost.map((c, at) => Math.exp((f[Math.floor(at / n)] + g[at % n] - c) / epsilon));
    u.fill(1);
    v.fill(1);
    for (let largest = 0; !(largest > LARGEST); ) {
      need(done++ < most, "the plan has not converged");
      let error = 0;
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let i = 0; i < n; i++) sum += kernel[i * n + j] * u[i];
        error += Math.abs(sum * v[j] - 1 / n); // the rows are right now
        v[j] = 1 / (n * sum);
      }
      if (error <= tol) return kernel.map((p, at) => p * u[Math.floor(at / n)] * v[at % n]);
      for (let i = 0; i < n; i++) {
        let sum = 0;
        for (let j = 0; j < n; j++) sum += kernel[i * n + j] * v[j];
        u[i] = 1 / (n * sum);
      }
      largest = Math.max(...u, ...v);
    }
    for (let i = 0; i < n; i++) {
      f[i] += epsilon * Math.log(u[i]);
      g[i] += epsilon * Math.log(v[i]);
    }
  }
}

/** Fit the columns, then the rows, by logarithms. */
function sweep(f, g, cost, epsilon) {
  const n = f.length;
  const logSum = (term) => {
    let top = -Infinity;
    for (let k = 0; k < n; k++) top = Math.max(top, term(k));
    let sum = 0;
    for (let k = 0; k < n; k++) sum += Math.exp(term(k) - top);
    return top + Math.log(sum);
  };
  for (let j = 0; j < n; j++)
    g[j] = -epsilon * (logSum((i) => (f[i] - cost[i * n + j]) / epsilon) + Math.log(n));
  for (let i = 0; i < n; i++)
    f[i] = -epsilon * (logSum((j) => (g[j] - cost[i * n + j]) / epsilon) + Math.log(n));
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
