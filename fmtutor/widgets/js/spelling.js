import { need } from "./checks.js";
import { Random } from "./rng.js";
import { softmax } from "./softmax.js";

/** The token behind the letters a to z; then comes the mask. */
export const BLANK = 26;

/**
 * What was typed as a pattern: small letters, dots for what is open; nothing leaves all open.
 *
 * @param {string} typed
 * @param {number} length The most that a pattern may have.
 */
export function patternOf(typed, length) {
  const whole = typed.trim().toLowerCase().replaceAll("…", "...");
  const marks = [...whole.replace(/[?_*·\s-]/g, ".")].filter((mark) => /[a-z.]/.test(mark));
  return marks.slice(0, length).join("") || ".".repeat(length);
}

/** A word as it is shown: a dot for an open place, a line for a blank before a letter. */
export function spelled(word) {
  const end = word.findLastIndex((token) => token !== BLANK);
  return word.slice(0, end + 1).map((token) => {
    if (token === BLANK) return "_";
    return token > BLANK ? "·" : String.fromCharCode(97 + token);
  });
}

/**
 * A pattern as tokens: letters, masks for dots, blanks behind it.
 *
 * @returns {number[]}
 */
export function tokensOf(pattern, { length, tokens }) {
  const good = typeof pattern === "string" && /^[a-z.]+$/.test(pattern) && pattern.length <= length;
  need(good, `the pattern is ${pattern}`);
  return Array.from({ length }, (_, i) => {
    if (i >= pattern.length) return BLANK;
    return pattern[i] === "." ? tokens : pattern.charCodeAt(i) - 97;
  });
}

/** The Bloom filter of the dictionary: `fmtutor.widgets.spelling_explorer.word_filter`. */
export class WordFilter {
  /**
   * @param {Floats} bytes
   * @param {number} hashes Bits that a word has.
   */
  constructor(bytes, hashes) {
    need(bytes.length > 0, "the dictionary is empty");
    need(Number.isInteger(hashes) && hashes >= 1, "the dictionary has no hashes");
    Object.assign(this, { bytes, hashes, size: 8 * bytes.length });
  }

  /** Whether a word, given as tokens, is taken for one of the dictionary; an open one is not. */
  has(word) {
    if (word.some((token) => token > BLANK)) return false;
    const [first, second] = [0x811c9dc5, 0x85ebca6b].map((seed) => {
      let h = seed;
      for (const token of word) h = Math.imul(h ^ token, 0x01000193);
      return (h ^ (h >>> 15)) >>> 0;
    });
    for (let k = 0; k < this.hashes; k++) {
      const at = (first + k * ((second | 1) >>> 0)) % this.size;
      if (!((this.bytes[at >> 3] >> (at & 7)) & 1)) return false;
    }
    return true;
  }
}

/** Words from masks, a step at a time, and in a step a word at a time. */
export class Writer {
  /**
   * @param {import("./token_network.js").TokenTransformer} network
   * @param {{start: number[], count: number, steps: number, seed: number}} settings
   */
  constructor(network, { start, count, steps, seed }) {
    Object.assign(this, { network, count, steps });
    const random = new Random(seed);
    const places = count * network.length;
    [this.clocks, this.choices] = [0, 1].map(() =>
      Float64Array.from({ length: places }, () => random.uniform()),
    );
    this.path = [Array.from({ length: count }, () => start)];
    this.next = [];
    this.logits = new Float32Array(network.length * network.tokens);
    this.law = new Float64Array(network.tokens);
  }

  /** The last step that is known. */
  get known() {
    return this.path.length - 1;
  }

  /** The words after a known step. */
  words(step) {
    return this.path[step];
  }

  /** Write until a step is known or the budget of milliseconds is spent. */
  advance(step, budget) {
    const end = performance.now() + budget;
    while (this.known < step && performance.now() < end) {
      this.next.push(this.written(this.next.length));
      if (this.next.length < this.count) continue;
      this.path.push(this.next);
      this.next = [];
    }
  }

  /** One word after the next step: the letters come whose time is over. */
  written(k) {
    const { network, logits, law, clocks, choices } = this;
    const { length, tokens } = network;
    const [word, now] = [this.path.at(-1)[k], this.path.length / this.steps];
    const due = (token, i) => token === tokens && clocks[k * length + i] <= now;
    if (!word.some(due)) return word;
    network.forward(word, logits);
    return word.map((token, i) => {
      if (!due(token, i)) return token;
      law.set(logits.subarray(i * tokens, (i + 1) * tokens));
      softmax(law);
      need(Number.isFinite(law[0]), "the network left the numbers");
      let [sum, letter] = [law[0], 0];
      while (sum < choices[k * length + i] && letter < tokens - 1) sum += law[++letter];
      return letter;
    });
  }
}
