import { EmpiricalField } from "./empirical.js";
import { energyDistance } from "./metrics.js";
import { MLP } from "./mlp.js";
import { condOT, cosine } from "./paths.js";
import { Random } from "./rng.js";
import { follow } from "./solvers.js";
import { Trainer } from "./training.js";

/** The paths that can be chosen. */
export const ROUTES = { CondOT: condOT(), Cosine: cosine() };
/** Arrows stop growing at this speed. */
const FASTEST = 5;

/**
 * Var[u_t | x_t] at one point, a mean over dimensions: `EmpiricalField.target_variance`.
 *
 * u_t = (α' − α σ'/σ) x1 + (σ'/σ) x depends on the data point alone, so this is the posterior
 * variance of x1 times (α' − α σ'/σ)².
 */
function targetVariance(field, x, t) {
  const { path, data, dim } = field;
  const mean = field.posteriorMean(x, t);
  let variance = 0;
  for (let i = 0; i < field.weights.length; i++)
    for (let j = 0; j < dim; j++)
      variance += (field.weights[i] * (data[i * dim + j] - mean[j]) ** 2) / dim;
  return variance * (path.dAlpha(t) - (path.alpha(t) * path.dSigma(t)) / path.sigma(t)) ** 2;
}

/** E Var[u_t | x_t]: the least loss on these points. The times are spread evenly. */
function lossFloor(field, count, random) {
  const { path, data, dim } = field;
  const x = new Float64Array(dim);
  let sum = 0;
  for (let k = 0; k < count; k++) {
    const row = random.integer(data.length / dim);
    const t = (k + random.uniform()) / count;
    for (let j = 0; j < dim; j++)
      x[j] = path.alpha(t) * data[row * dim + j] + path.sigma(t) * random.normal();
    sum += targetVariance(field, x, t);
  }
  return sum / count;
}

/** A model in training, asked by messages: each method answers one kind. */
class Learner {
  constructor({ settings, width, path, optimal, data, held }) {
    const { architecture, seed, batch } = settings;
    const sizes = { ...architecture, width };
    Object.assign(this, { settings, path: ROUTES[path], optimal });
    this.mlp = MLP.initial(sizes, new Random(seed));
    this.average = new MLP(sizes, this.mlp.params.slice());
    this.trainer = new Trainer(this.mlp, { batch });
    this.random = new Random(seed + 1);
    this.noise = new Random(seed + 2).normals(new Float32Array(2 * settings.samples));
    this.change({ data, held });
  }

  /** Take other points; the weights stay. */
  change({ data, held }) {
    const reach = data.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    Object.assign(this, { data, held, reach, exact: new EmpiricalField(this.path, data) });
    return {};
  }

  /** The floor, and how near the data itself comes to what is held out. */
  measure() {
    const { settings, data, held } = this;
    const floor = lossFloor(this.exact, settings.floor, new Random(settings.seed + 3));
    return { floor, best: energyDistance(data.subarray(0, held.length), held) };
  }

  /** Steps for some milliseconds, one at least; the average of the weights follows as in `fit`. */
  train({ lr, budget, most }) {
    const { trainer, random, path, optimal } = this;
    const end = performance.now() + budget;
    const losses = [];
    trainer.lr = lr;
    do {
      losses.push(trainer.step(this.data, random, { path, optimal }));
      const decay = Math.min(0.999, trainer.steps / (9 + trainer.steps));
      const [slow, fast] = [this.average.params, this.mlp.params];
      for (let i = 0; i < slow.length; i++) slow[i] += (1 - decay) * (fast[i] - slow[i]);
    } while (losses.length < most && performance.now() < end);
    return { losses };
  }

  /** Samples of the averaged model, and their energy distance to the held-out data. */
  sample({ method, steps }) {
    const start = performance.now();
    const x = follow(this.average.field(), this.noise, { method, steps }).at(-1);
    const distance = energyDistance(x, this.held);
    return { samples: x, distance, cost: performance.now() - start };
  }

  /** Learned and exact velocities on a grid, where x_t comes by; and some of the x_t. */
  look({ time }) {
    const { settings, path, data } = this;
    const [alpha, sigma] = [path.alpha(time), path.sigma(time)];
    const half = alpha * this.reach + 2.2 * sigma;
    const [side, random] = [settings.side, new Random(settings.seed + 4)];
    const rows = Array.from({ length: settings.dots }, () => random.integer(data.length / 2));
    const dots = random.normals(new Float32Array(2 * rows.length));
    for (let i = 0; i < dots.length; i++)
      dots[i] = alpha * data[2 * rows[i >> 1] + (i % 2)] + sigma * dots[i];
    const places = [];
    const near = (2.2 * sigma + 0.2) ** 2;
    for (let k = 0; k < side * side; k++) {
      const [x, y] = [k % side, Math.floor(k / side)].map((i) => half * ((2 * i) / (side - 1) - 1));
      let least = Infinity;
      for (let i = 0; i < data.length; i += 2)
        least = Math.min(least, (x - alpha * data[i]) ** 2 + (y - alpha * data[i + 1]) ** 2);
      if (least < near) places.push(x, y);
    }
    const at = Float32Array.from(places);
    const [learned, exact] = [new Float32Array(at.length), new Float32Array(at.length)];
    this.average.forward(at, time, learned);
    this.exact.velocity(at, time, exact);
    return { time, half, dots, places: at, learned: slowed(learned), exact: slowed(exact) };
  }
}

/** The velocities, none longer than FASTEST. */
function slowed(uv) {
  for (let i = 0; i < uv.length; i += 2) {
    const share = Math.min(1, FASTEST / (Math.hypot(uv[i], uv[i + 1]) + 1e-9));
    uv[i] *= share;
    uv[i + 1] *= share;
  }
  return uv;
}

/** What runs in the worker: it answers messages, and trains only when it is asked to. */
export function serveLearner(self) {
  let learner;
  self.onmessage = ({ data: { kind, run, body } }) => {
    try {
      if (kind === "begin") learner = new Learner(body);
      const answer = kind === "begin" ? {} : learner[kind](body);
      self.postMessage({ kind, run, answer });
    } catch (fault) {
      self.postMessage({ kind: "fault", run, answer: { reason: fault.message } });
    }
  };
}
