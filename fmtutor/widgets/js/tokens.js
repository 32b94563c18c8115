/**
 * Two tokens and the chain that carries them from a source to a law, exactly: what
 * `fmtutor.finite_law` and `fmtutor.jumps` compute, for pairs.
 */

/** Schedules κ by name, `fmtutor.paths.discrete`. */
const SCHEDULES = {
  straight: (t) => t,
  late: (t) => t * t,
  cosine: (t) => 1 - Math.sin((Math.PI / 2) * (1 - t)),
};

export class TokenChain {
  /**
   * @param {Floats | number[]} table The law of a pair, `[k k]`, row by row; it adds up to 1.
   * @param {{masked: boolean, schedule: string, renewal?: number}} settings
   */
  constructor(table, { masked, schedule, renewal = 0 }) {
    const tokens = Math.round(Math.sqrt(table.length));
    const states = tokens + (masked ? 1 : 0);
    const kappa = SCHEDULES[schedule];
    if (!kappa) throw new Error(`there is no schedule ${schedule}`);
    Object.assign(this, { table, tokens, states, masked, kappa, renewal });
  }

  /** The probability that a source's token is x. */
  source(x) {
    if (this.masked) return x === this.tokens ? 1 : 0;
    return 1 / this.tokens;
  }

  /** p_t(x|y) of a token: x now, if the data's is y. */
  channel(x, y, t) {
    const kappa = this.kappa(t);
    return (1 - kappa) * this.source(x) + (x === y ? kappa : 0);
  }

  /** The law of both tokens at a time, `[states states]`. */
  law(t) {
    const { table, tokens: k, states: n } = this;
    const half = new Float64Array(n * k);
    const law = new Float64Array(n * n);
    for (let x = 0; x < n; x++)
      for (let y = 0; y < k; y++) {
        const share = this.channel(x, y, t);
        if (share) for (let z = 0; z < k; z++) half[x * k + z] += share * table[y * k + z];
      }
    for (let x = 0; x < n; x++)
      for (let w = 0; w < n; w++)
        for (let z = 0; z < k; z++) law[x * n + w] += half[x * k + z] * this.channel(w, z, t);
    return law;
  }

  /** What a network that knows all would say of each token, `[k]` twice, at a time. */
  posteriors(t) {
    const { table, tokens: k, states: n } = this;
    // What each token alone says of the other.
    const [byFirst, bySecond] = [new Float64Array(n * k), new Float64Array(n * k)];
    for (let x = 0; x < n; x++)
      for (let y = 0; y < k; y++) {
        const share = this.channel(x, y, t);
        if (share)
          for (let z = 0; z < k; z++) {
            byFirst[x * k + z] += share * table[y * k + z];
            bySecond[x * k + z] += share * table[z * k + y];
          }
      }
    const one = (x, other, by) => {
      const p = new Float64Array(k);
      if (this.masked && x < k) {
        p[x] = 1; // a token that is no mask is the data's
        return p;
      }
      let total = 0;
      for (let y = 0; y < k; y++) total += p[y] = this.channel(x, y, t) * by[other * k + y];
      return p.map((value) => (total > 0 ? value / total : 1 / k));
    };
    return (first, second) => [one(first, second, bySecond), one(second, first, byFirst)];
  }

  /** The law of a token after a step from t to s, `[states]`, for its posterior. */
  kernel(x, posterior, t, s) {
    const [now, then] = [this.kappa(t), this.kappa(s)];
    const [a, b] = [(then - now) / (1 - now), -Math.expm1(-this.renewal * (s - t))];
    const law = new Float64Array(this.states);
    for (let y = 0; y < this.states; y++) {
      const p = posterior[y] ?? 0;
      const stays = (1 - a) * (x === y ? 1 : 0) + a * p;
      law[y] = (1 - b) * stays + b * ((1 - then) * this.source(y) + then * p);
    }
    return law;
  }

  /** The law from which so many equal steps draw, `[states states]`. */
  propagated(steps) {
    const n = this.states;
    let law = this.law(0);
    for (let j = 0; j < steps; j++) {
      const [t, s] = [j / steps, (j + 1) / steps];
      const told = this.posteriors(t);
      const next = new Float64Array(n * n);
      for (let x = 0; x < n * n; x++) {
        if (law[x] === 0) continue;
        const [first, second] = [Math.floor(x / n), x % n];
        const [p, q] = told(first, second);
        const [u, v] = [this.kernel(first, p, t, s), this.kernel(second, q, t, s)];
        for (let y = 0; y < n; y++)
          if (u[y]) for (let z = 0; z < n; z++) next[y * n + z] += law[x] * u[y] * v[z];
      }
      law = next;
    }
    return law;
  }

  /** The total variation between what so many steps draw and the data. */
  error(steps) {
    const { table, tokens: k, states: n } = this;
    const law = this.propagated(steps);
    let sum = 0;
    for (let x = 0; x < n; x++)
      for (let y = 0; y < n; y++)
        sum += Math.abs(law[x * n + y] - (x < k && y < k ? table[x * k + y] : 0));
    return sum / 2;
  }

  /** What the formula says of two masked tokens: Σ(Δκ)² times the distance from the product. */
  formula(steps) {
    const { table, tokens: k } = this;
    const [rows, columns] = [new Float64Array(k), new Float64Array(k)];
    table.forEach((p, i) => {
      rows[Math.floor(i / k)] += p;
      columns[i % k] += p;
    });
    let apart = 0;
    table.forEach((p, i) => (apart += Math.abs(p - rows[Math.floor(i / k)] * columns[i % k]) / 2));
    let same = 0;
    for (let j = 0; j < steps; j++)
      same += (this.kappa((j + 1) / steps) - this.kappa(j / steps)) ** 2;
    return same * apart;
  }

  /**
   * Chains of pairs, drawn: `[steps + 1]` times `[2 count]` tokens.
   *
   * @param {import("./rng.js").Random} random
   */
  run(count, steps, random) {
    const draw = (law) => {
      let rest = random.uniform();
      for (let y = 0; y < law.length - 1; y++) if ((rest -= law[y]) < 0) return y;
      return law.length - 1;
    };
    const source = Float64Array.from({ length: this.states }, (_, x) => this.source(x));
    let pairs = Uint8Array.from({ length: 2 * count }, () => draw(source));
    const all = [pairs];
    for (let j = 0; j < steps; j++) {
      const [t, s] = [j / steps, (j + 1) / steps];
      const told = this.posteriors(t);
      pairs = pairs.slice();
      for (let i = 0; i < pairs.length; i += 2) {
        const [first, second] = [pairs[i], pairs[i + 1]];
        const [p, q] = told(first, second);
        pairs[i] = draw(this.kernel(first, p, t, s));
        pairs[i + 1] = draw(this.kernel(second, q, t, s));
      }
      all.push(pairs);
    }
    return all;
  }
}
