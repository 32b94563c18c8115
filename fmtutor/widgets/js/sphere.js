/** Points of the unit sphere lie in flat arrays `[n 3]`. */

/** Divide each point by its length. */
export function normalised(x) {
  for (let i = 0; i < x.length; i += 3) {
    const length = Math.hypot(x[i], x[i + 1], x[i + 2]);
    for (let k = i; k < i + 3; k++) x[k] /= length;
  }
  return x;
}

/** The marginal field of a finite data set `[n 3]` on the sphere, from the uniform source. */
export class SphereField {
  constructor(data) {
    Object.assign(this, { data, n: data.length / 3 });
    this.weights = new Float64Array(this.n);
    this.angles = new Float64Array(this.n);
  }

  /** The angles from a point to all data points, by both chords; returns the nearest one. */
  look(x, y, z) {
    const { data, angles } = this;
    let nearest = 0;
    for (let i = 0; i < this.n; i++) {
      const [a, b, c] = [data[3 * i], data[3 * i + 1], data[3 * i + 2]];
      const near = (a - x) ** 2 + (b - y) ** 2 + (c - z) ** 2;
      const far = (a + x) ** 2 + (b + y) ** 2 + (c + z) ** 2;
      angles[i] = 2 * Math.atan2(Math.sqrt(near), Math.sqrt(far));
      if (angles[i] < angles[nearest]) nearest = i;
    }
    return nearest;
  }

  /** Write the velocities at points `[m 3]` at a time below 1 into `out`. */
  velocity = (x, t, out) => {
    const { data, n, angles, weights } = this;
    const left = 1 - t;
    for (let at = 0; at < x.length; at += 3) {
      const here = [x[at], x[at + 1], x[at + 2]];
      const nearest = this.look(...here);
      let total = 0;
      for (let i = 0; i < n; i++) {
        const whole = angles[i] / left;
        // sin φ/sin θ, whose limit at 0 is 1/(1 − t); nothing can come from beyond φ = π.
        const ratio = angles[i] < 1e-9 ? 1 / left : Math.sin(whole) / Math.sin(angles[i]);
        weights[i] = whole < Math.PI ? ratio : 0;
        total += weights[i];
      }
      if (!(total > 0)) weights[nearest] = total = 1;
      out[at] = out[at + 1] = out[at + 2] = 0;
      for (let i = 0; i < n; i++) {
        if (!(weights[i] > 0) || !(angles[i] > 0)) continue;
        const y = data.subarray(3 * i, 3 * i + 3);
        const cosine = y[0] * here[0] + y[1] * here[1] + y[2] * here[2];
        const way = here.map((v, k) => y[k] - cosine * v);
        const length = Math.hypot(...way);
        if (length < 1e-12) continue;
        const scale = (weights[i] * angles[i]) / (total * left * length);
        for (let k = 0; k < 3; k++) out[at + k] += scale * way[k];
      }
    }
  };

  /** The way of points `[m 3]` at the times k/steps, by the midpoint method; the last is the limit. */
  follow(x0, steps) {
    const path = [x0];
    const u = new Float64Array(x0.length);
    for (let k = 0; k < steps - 1; k++) {
      const x = path[k];
      this.velocity(x, k / steps, u);
      const half = normalised(x.map((v, i) => v + u[i] / (2 * steps)));
      this.velocity(half, (k + 0.5) / steps, u);
      path.push(normalised(x.map((v, i) => v + u[i] / steps)));
    }
    const end = new Float64Array(x0.length);
    for (let i = 0; i < end.length; i += 3) {
      const nearest = this.look(...path[steps - 1].subarray(i, i + 3));
      end.set(this.data.subarray(3 * nearest, 3 * nearest + 3), i);
    }
    path.push(end);
    return path;
  }
}
