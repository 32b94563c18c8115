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
