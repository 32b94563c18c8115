/**
 * Classifier-free guidance, u + scale (u_c − u), as `fmtutor.guided`.
 *
 * @param {Field} conditional
 * @param {Field} unconditional
 * @param {() => number} scale Asked at each evaluation, so that a slider may move it.
 * @param {number} size Numbers in the largest array of points.
 * @returns {Field}
 */
export function guided(conditional, unconditional, scale, size) {
  const kept = new Float64Array(size);
  return (x, t, out) => {
    const s = scale();
    unconditional(x, t, out);
    if (s === 0) return;
    const u = out.length === size ? kept : kept.subarray(0, out.length);
    u.set(out);
    conditional(x, t, out);
    for (let i = 0; i < out.length; i++) out[i] = u[i] + s * (out[i] - u[i]);
  };
}
