import { affine } from "./affine.js";
import { need } from "./checks.js";
import { follow } from "./solvers.js";

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/**
 * `fmtutor.policies.Room`: a square room with a block in the middle, a ball that a force moves.
 *
 * @typedef {{half: number, block: [number, number], goal: [number, number], near: number,
 *   radius: number, mass: number, strength: number, damping: number, tick: number,
 *   fastest: number}} RoomSettings
 */
export class Room {
  /** @param {RoomSettings} settings */
  constructor(settings) {
    Object.assign(this, settings);
  }

  /**
   * Put a ball back that went into a wall or the block, and stop it in that direction.
   *
   * @param {number[] | Floats} state Place and velocity; changed.
   * @returns {boolean} Whether it touches.
   */
  keepOut(state) {
    const { half, block, radius } = this;
    const inner = [0, 1].map((i) => clamp(state[i], radius - half, half - radius));
    const depth = inner.map((x, i) => block[i] + radius - Math.abs(x));
    const least = Math.min(...depth);
    let touched = false;
    for (const i of [0, 1]) {
      if (least > 0 && depth[i] === least) inner[i] = (block[i] + radius) * (inner[i] < 0 ? -1 : 1);
      if (inner[i] === state[i]) continue;
      touched = true;
      state[i] = inner[i];
      state[2 + i] = 0;
    }
    return touched;
  }

  /**
   * Move a ball for a tick under an action, a force within [−1, 1] in each direction.
   *
   * @param {number[] | Floats} state Place and velocity; changed.
   * @param {[number, number]} action
   * @returns {boolean} Whether it touches.
   */
  step(state, action) {
    const { tick, mass, strength, damping, fastest } = this;
    for (const i of [0, 1]) {
      const push = (tick / mass) * strength * clamp(action[i], -1, 1);
      // The damping acts on the new velocity, so that no step can overshoot.
      state[2 + i] = (clamp(state[2 + i], -fastest, fastest) + push) / (1 + (tick * damping) / mass);
      state[i] += tick * state[2 + i];
    }
    return this.keepOut(state);
  }

  /** Whether a ball is at the goal. */
  reached(state) {
    return Math.hypot(state[0] - this.goal[0], state[1] - this.goal[1]) < this.near;
  }
}

/** `fmtutor.policies.push`: the action that keeps a ball with a target, a spring and a brake. */
export function pushTo(state, target, speed, stiffness = 10, brake = 1.3) {
  return [0, 1].map((i) =>
    clamp(stiffness * (target[i] - state[i]) + brake * (speed[i] - state[2 + i]), -1, 1),
  );
}

/**
 * `fmtutor.policies.follow_plans` for one ball: ask for a plan, follow some of it, ask again.
 *
 * @param {(state: number[], k: number) => Floats} policy Of the k-th decision: the next positions
 *   `[h 2]`, less the present one.
 * @param {Room} room
 * @param {number[]} start
 * @param {{commitment: number, limit: number, ticks: number}} settings
 * @returns {{states: number[][], touching: boolean[], steps: number, reached: boolean,
 *   decisions: number}} All states up to the last step, and for each step whether the ball touched.
 */
export function followPlans(policy, room, start, { commitment, limit, ticks }) {
  const [states, touching] = [[[...start]], []];
  let reached = room.reached(start);
  let decisions = 0;
  let origin;
  let plan;
  for (let k = 0; k < limit && (k === 0 || !reached); k++) {
    const state = [...states[k]];
    if (k % commitment === 0) {
      origin = state.slice(0, 2);
      plan = policy(state, decisions++);
    }
    if (reached) break;
    const at = (j) => [0, 1].map((i) => origin[i] + (j ? plan[2 * (j - 1) + i] : 0));
    const [here, there] = [at(k % commitment), at((k % commitment) + 1)];
    const speed = here.map((x, i) => (there[i] - x) / (ticks * room.tick));
    let hit = false;
    for (let j = 1; j <= ticks; j++) {
      const target = here.map((x, i) => x + j * room.tick * speed[i]);
      hit = room.step(state, pushTo(state, target, speed)) || hit;
    }
    states.push(state);
    touching.push(hit);
    reached = room.reached(state);
  }
  need(states.at(-1).every(Number.isFinite), "the ball left the numbers");
  return { states, touching, steps: touching.length, reached, decisions };
}

/** `fmtutor.networks.layers_of`: hidden layers with SiLU, and a linear one, in double precision. */
class Layers {
  /**
   * @param {Float32Array} params All parameters, flat.
   * @param {number[]} sizes Of the input, and of what each layer returns.
   */
  constructor(params, sizes) {
    let at = 0;
    const cut = (n) => params.subarray(at, (at += n));
    this.layers = sizes.slice(1).map((nout, k) => {
      const nin = sizes[k];
      return { nin, nout, w: cut(nin * nout), b: cut(nout) };
    });
    need(params.length === at, `layers of these sizes have ${at} weights, not ${params.length}`);
  }

  /** What the layers return for rows `[n nin]`. */
  of(rows, n) {
    let x = rows;
    this.layers.forEach(({ nin, nout, w, b }, k) => {
      if (k) for (let i = 0; i < x.length; i++) x[i] /= 1 + Math.exp(-x[i]);
      const y = new Float64Array(n * nout);
      affine(x, 0, w, b, y, 0, n, nin, nout);
      x = y;
    });
    return x;
  }
}

/** Two policies that see a ball's place and velocity and make plans: a regression and a flow. */
export class Planner {
  /**
   * @param {{average: Float32Array, flow: Float32Array, scales: Float32Array}} learned Weights; the
   *   scales are means and deviations of what is seen, and of plans.
   * @param {{sizes: number[], frequencies: number[]}} settings What each layer returns, the last
   *   one a plan; the frequencies of time.
   */
  constructor({ average, flow, scales }, { sizes, frequencies }) {
    const d = sizes.at(-1);
    need(scales.length === 8 + 2 * d, `${scales.length} numbers are no scales of plans of ${d}`);
    const cuts = [0, 4, 8, 8 + d, 8 + 2 * d];
    this.scales = cuts.slice(1).map((end, k) => scales.subarray(cuts[k], end));
    this.dim = d;
    this.frequencies = frequencies;
    this.average = new Layers(average, [4, ...sizes]);
    this.flow = new Layers(flow, [d + 4 + 2 * frequencies.length, ...sizes]);
  }

  /** `fmtutor.networks.ObservingMLP`: velocities of points `[n d]` at a time, in units. */
  velocity(x, t, seen) {
    const angles = this.frequencies.map((f) => 2 * Math.PI * f * t);
    const told = [...seen, ...angles.map(Math.cos), ...angles.map(Math.sin)];
    const [n, nin] = [x.length / this.dim, this.dim + told.length];
    const rows = new Float64Array(n * nin);
    for (let i = 0; i < n; i++) {
      rows.set(x.subarray(i * this.dim, (i + 1) * this.dim), i * nin);
      rows.set(told, i * nin + this.dim);
    }
    return this.flow.of(rows, n);
  }

  /** What a ball is seen to do, in units. */
  seen(state) {
    const [mean, deviation] = this.scales;
    return Float64Array.from(state, (value, i) => (value - mean[i]) / deviation[i]);
  }

  /** Plans in units as positions less the present one. */
  positions(plans) {
    const [, , mean, deviation] = this.scales;
    return plans.map((value, i) => mean[i % this.dim] + deviation[i % this.dim] * value);
  }

  /** The plan `[h 2]` of the regression. */
  mean(state) {
    return this.positions(this.average.of(this.seen(state), 1));
  }

  /** Plans `[n h 2]` of the flow, from noise `[n h 2]` by so many steps of Euler's method. */
  draw(state, noise, evaluations) {
    const seen = this.seen(state);
    const field = (x, t, out) => out.set(this.velocity(x, t, seen));
    return this.positions(follow(field, noise, { steps: evaluations }).at(-1));
  }
}
