import { need } from "./checks.js";

/** Euler's method, and samplers that solve the linear half exactly: `fmtutor.exponential`. */
export const SAMPLERS = ["euler", "ddim", "2m", "ancestral"];

/**
 * Follow a mixture's field from noise to data and keep every point.
 *
 * @param {import("./mixture.js").GaussianMixture} mixture Its path is that of the sampler, with
 *   noise and data at no time but 0 < α and 0 < σ.
 * @param {number[]} times They increase.
 * @param {Float64Array} x0 Points `[n d]` at the first of them; not changed.
 * @param {string} method One of `SAMPLERS`.
 * @param {import("./rng.js").Random} [random] Of the ancestral sampler.
 * @returns {Float64Array[]} The points at each of the times.
 */
export function walk(mixture, times, x0, method, random) {
  need(SAMPLERS.includes(method), `a sampler called ${method} is not known`);
  const way = [x0.slice()];
  let last = null; // prediction and step in log(α/σ) before
  for (let k = 0; k + 1 < times.length; k++) {
    const [x, data] = [way[k].slice(), new Float64Array(x0.length)];
    const [now, stop] = [times[k], times[k + 1]].map((t) => scalesAt(mixture.path, t));
    mixture.velocity(x, now.t, data);
    way.push(x);
    if (method === "euler") {
      for (let i = 0; i < x.length; i++) x[i] += (stop.t - now.t) * data[i];
      continue;
    }
    predict(x, now, data);
    const h = Math.log(stop.alpha / stop.sigma) - Math.log(now.alpha / now.sigma);
    const middle = method === "2m" && last ? extrapolated(data, last, h) : data;
    last = { data, h };
    // Ancestral: beyond the aim as far again, and noise that leads back.
    const sigma = method === "ancestral" ? stop.sigma * Math.exp(-h) : stop.sigma;
    const ratio = sigma / now.sigma;
    const gain = stop.alpha - now.alpha * ratio;
    for (let i = 0; i < x.length; i++) x[i] = ratio * x[i] + gain * middle[i];
    if (method === "ancestral") {
      const noise = random.normals(new Float32Array(x.length));
      const width = Math.sqrt(stop.sigma ** 2 - sigma ** 2);
      for (let i = 0; i < x.length; i++) x[i] += width * noise[i];
    }
  }
  return way;
}

function scalesAt(path, t) {
  const [alpha, sigma, dAlpha, dSigma] = ["alpha", "sigma", "dAlpha", "dSigma"].map((key) =>
    path[key](t),
  );
  return { t, alpha, sigma, dAlpha, dSigma };
}

/** Turn velocities into the data they predict: x1 = (σ'x − σv)/(ασ' − α'σ). */
function predict(x, { alpha, sigma, dAlpha, dSigma }, out) {
  const whole = alpha * dSigma - dAlpha * sigma;
  for (let i = 0; i < x.length; i++) out[i] = (dSigma * x[i] - sigma * out[i]) / whole;
}

/** The prediction at the middle of a step, on a line through the last two. */
function extrapolated(data, last, h) {
  return data.map((value, i) => value + (h / (2 * last.h)) * (value - last.data[i]));
}
