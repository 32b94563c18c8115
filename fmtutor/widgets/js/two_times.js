import { affine } from "./affine.js";
import { need } from "./checks.js";
import { MLP } from "./mlp.js";
import { unpack } from "./packing.js";

/** `fmtutor.networks.TwoTimes` over an MLP: an average velocity from one time to another. */
export class TwoTimes extends MLP {
  /** Read an average velocity that Python packed: a network, and what it is told of the span. */
  static unpack(packed) {
    need(packed?.network, "the network has not arrived");
    const { network, frequencies, span } = packed;
    const u = new TwoTimes(network.architecture, unpack(network.weights, "the network"));
    u.slow = frequencies;
    u.hear(unpack(span, "the second time"));
    return u;
  }

  /** Cut the weights of the two layers that the span t − s passes. */
  hear(weights) {
    const [nin, nout] = [2 * this.slow.length, this.time_dim];
    const width = (weights.length - nout) / (nin + 1 + nout);
    need(Number.isInteger(width), `${weights.length} weights do not fit the second time`);
    const sizes = [nin * width, width, width * nout, nout];
    let at = 0;
    this.spanLayers = sizes.map((size) => weights.subarray(at, (at += size)));
    this.hidden = new Float32Array(width);
    this.told = new Float32Array(nout);
  }

  /** Add what is told of the span to the features of the first time. */
  embed(t, label, out, at) {
    super.embed(t, label, out, at);
    for (let j = 0; j < this.time_dim; j++) out[at + j] += this.told[j];
  }

  /** Write average velocities from s to t of points `[n d]` that are there at s. */
  average(x, s, t, out) {
    const { slow, hidden, told } = this;
    const [w, b, w2, b2] = this.spanLayers;
    const angles = slow.map((f) => 2 * Math.PI * f * (t - s));
    const features = Float32Array.from([...angles.map(Math.cos), ...angles.map(Math.sin)]);
    affine(features, 0, w, b, hidden, 0, 1, features.length, hidden.length);
    for (let i = 0; i < hidden.length; i++) hidden[i] /= 1 + Math.exp(-hidden[i]);
    affine(hidden, 0, w2, b2, told, 0, 1, hidden.length, told.length);
    this.forward(x, s, out);
  }

  /** Jump from each time to the next; return the points at all of them. */
  jump(x0, times) {
    const [path, step] = [[x0.slice()], new Float64Array(x0.length)];
    for (let k = 0; k + 1 < times.length; k++) {
      const x = path[k].slice();
      this.average(x, times[k], times[k + 1], step);
      for (let i = 0; i < x.length; i++) x[i] += (times[k + 1] - times[k]) * step[i];
      path.push(x);
    }
    return path;
  }
}
