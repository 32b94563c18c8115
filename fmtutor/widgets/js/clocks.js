/**
 * Clocks of schedules, as in `fmtutor.clocks`, and schedules between two others.
 *
 * @typedef {import("./paths.js").Path} Path
 */

/** @returns {number} λ = log(α²/σ²). */
export function logSnr(path, t) {
  return 2 * (Math.log(path.alpha(t)) - Math.log(path.sigma(t)));
}

/** @returns {number} The time whose signal-to-noise ratio t/(1 − t) is that of t over a ratio. */
export function shift(t, ratio) {
  return t / (t + ratio * (1 - t));
}

/** @returns {number} The time of a log-SNR, by bisection. */
export function timeOfLogSnr(path, value) {
  let [low, high] = [0, 1];
  for (let k = 0; k < 60; k++) {
    const middle = (low + high) / 2;
    if (logSnr(path, middle) < value) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * Times of steps from one log-SNR to another.
 *
 * @param {Path} path
 * @param {"log-SNR" | "time"} grid What all steps have the same share of.
 * @param {[number, number]} span The first and the last log-SNR.
 * @returns {number[]} `steps + 1` times.
 */
export function timesOn(path, grid, [first, last], steps) {
  const share = (a, b) => Array.from({ length: steps + 1 }, (_, k) => a + ((b - a) * k) / steps);
  if (grid === "log-SNR") return share(first, last).map((value) => timeOfLogSnr(path, value));
  return share(timeOfLogSnr(path, first), timeOfLogSnr(path, last));
}

/**
 * The path a share of the way from one to another.
 *
 * @param {Path} a
 * @param {Path} b
 * @returns {Path}
 */
export function between(a, b, share) {
  const mean = (key) => (t) => (1 - share) * a[key](t) + share * b[key](t);
  const [alpha, sigma, dAlpha, dSigma] = ["alpha", "sigma", "dAlpha", "dSigma"].map(mean);
  const halfDVariance = (t) => sigma(t) * dSigma(t);
  return { name: "Between", alpha, sigma, dAlpha, dSigma, halfDVariance };
}
