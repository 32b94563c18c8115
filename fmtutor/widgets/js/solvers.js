import { need } from "./checks.js";

/**
 * Points are rows of a flat typed array, `[n d]`. A field reads points, takes one time for all of
 * them, and writes velocities. Nothing that runs once a frame allocates.
 *
 * @typedef {Float32Array | Float64Array} Floats
 * @typedef {(x: Floats, t: number, out: Floats) => void} Field
 */

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
