/** One set of pictures at two resolutions: `fmtutor.widgets.resolutions`. */
import { condOT } from "./paths.js";
import { entropy, softmax } from "./softmax.js";

/**
 * The mean of each block of ratio × ratio pixels.
 *
 * @param {Floats} pictures Square ones, flat, `[n side·side]`.
 * @returns {Float64Array} `[n side/ratio·side/ratio]`
 */
export function blockMeans(pictures, side, ratio) {
  const small = side / ratio;
  const means = new Float64Array(pictures.length / ratio ** 2);
  pictures.forEach((value, i) => {
    const [row, column] = [Math.floor(i / side), i % side];
    // Rows of all pictures are numbered through: a picture has a whole number of rows of blocks.
    means[Math.floor(row / ratio) * small + Math.floor(column / ratio)] += value / ratio ** 2;
  });
  return means;
}

/**
 * Pictures in which each pixel fills a block.
 *
 * @param {number} side Of the small pictures.
 * @returns {Float64Array} `[n side·ratio·side·ratio]`
 */
export function enlarged(pictures, side, ratio) {
  const large = side * ratio;
  return Float64Array.from({ length: pictures.length * ratio ** 2 }, (_, i) => {
    const [row, column] = [Math.floor(i / large), i % large];
    return pictures[Math.floor(row / ratio) * side + Math.floor(column / ratio)];
  });
}

/** r times the block means of noise: standard normal again. */
export function shrunkNoise(noise, side, ratio) {
  return blockMeans(noise, side, ratio).map((value) => ratio * value);
}

/**
 * Each picture mixed with a noise of its own, and what the exact flow then knows.
 *
 * The logits −‖x_t − α x1‖²/(2σ²) with x_t = α x1' + σ x0 need nothing but dot products, which no
 * time changes.
 */
export class Draws {
  /** @param {Floats} data Pictures `[n dim]`. @param {Floats} noise As many. */
  constructor(data, noise, dim) {
    const n = data.length / dim;
    const dot = (a, i, b, j) => {
      let sum = 0;
      for (let k = 0; k < dim; k++) sum += a[i * dim + k] * b[j * dim + k];
      return sum;
    };
    const products = (a) =>
      Float64Array.from({ length: n * n }, (_, i) => dot(a, Math.floor(i / n), data, i % n));
    Object.assign(this, { n, path: condOT(), ofData: products(data), ofNoise: products(noise) });
  }

  /** How many pictures are still possible, on average: e to the mean entropy of the weights. */
  possible(t) {
    const { n, ofData, ofNoise } = this;
    const [alpha, sigma] = [this.path.alpha(t), this.path.sigma(t)];
    const weights = new Float64Array(n);
    let sum = 0;
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < n; i++) {
        const ofBoth = alpha * ofData[k * n + i] + sigma * ofNoise[k * n + i];
        weights[i] = (alpha * (ofBoth - (alpha * ofData[i * n + i]) / 2)) / sigma ** 2;
      }
      softmax(weights);
      sum += entropy(weights);
    }
    return Math.exp(sum / n);
  }
}
