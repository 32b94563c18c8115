import { EmpiricalField } from "./empirical.js";
import { condOT } from "./paths.js";
import { follow } from "./solvers.js";

/** Steps of a track over the whole time. */
const STEPS = 120;

/** Two data points on a line: their strips of density, the lines in them, and the one field. */
export class Strips {
  /**
   * @param {[number, number]} points
   * @param {number} sigmaMin The width that is left at time 1.
   * @param {number} end The last time of a track: below 1, where the field need not have a limit.
   */
  constructor(points, sigmaMin, end) {
    const path = condOT(sigmaMin);
    Object.assign(this, { points, path, end });
    this.marginal = new EmpiricalField(path, Float64Array.from(points), 1);
    this.out = new Float64Array(1);
  }

  /** p_t(x|x1) of a data point. */
  density(x, t, i) {
    const sigma = this.path.sigma(t);
    const z = (x - this.path.alpha(t) * this.points[i]) / sigma;
    return Math.exp(-0.5 * z * z) / (sigma * Math.sqrt(2 * Math.PI));
  }

  /** p_t(x), half of each. */
  mixture(x, t) {
    return 0.5 * (this.density(x, t, 0) + this.density(x, t, 1));
  }

  /** u_t(x|x1) = (σ'/σ)(x − α x1) + α' x1 of a data point. */
  conditional(x, t, i) {
    const { path, points } = this;
    const ratio = path.dSigma(t) / path.sigma(t);
    return ratio * (x - path.alpha(t) * points[i]) + path.dAlpha(t) * points[i];
  }

  /** u_t(x). */
  velocity(x, t) {
    this.marginal.velocity([x], t, this.out);
    return this.out[0];
  }

  /** All that is known at a place: weights and velocities of the points, their mean and variance. */
  at(x, t) {
    const weights = [...this.marginal.posterior([x], t)];
    const velocities = [0, 1].map((i) => this.conditional(x, t, i));
    const mean = this.velocity(x, t);
    const variance = weights[0] * weights[1] * (velocities[0] - velocities[1]) ** 2;
    return { weights, velocities, mean, variance };
  }

  /** Where the line to a data point through a place begins and ends, `[2 2]` as times and places. */
  line(x, t, i) {
    const { path, points } = this;
    const noise = (x - path.alpha(t) * points[i]) / path.sigma(t);
    return [0, noise, 1, points[i] + path.sigma(1) * noise];
  }

  /** The track of the field through a place, from time 0 to the end, `[n 2]` as times and places. */
  track(x, t) {
    const half = (t1) => {
      const steps = Math.max(1, Math.ceil(STEPS * Math.abs(t1 - t)));
      const settings = { method: "rk4", steps, t0: t, t1 };
      const places = follow(this.marginal.velocity, Float64Array.of(x), settings);
      return places.map(([place], k) => [t + ((t1 - t) * k) / steps, place]);
    };
    return [...half(0).reverse(), ...half(this.end).slice(1)].flat();
  }
}
