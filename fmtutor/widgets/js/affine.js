/**
 * y = x wᵀ + b for rows of x: the one kernel of the network, forward and backward.
 *
 * Two rows and four outputs at a time: eight sums stay in registers, and each number loaded is
 * used more than once.
 *
 * @param {Floats} x Rows `[n nin]`, from element `x0` on.
 * @param {Floats} w `[nout nin]`
 * @param {Floats | null} b `[nout]`; null is zero.
 * @param {Floats} y Rows `[n nout]`, from element `y0` on.
 */
export function affine(x, x0, w, b, y, y0, n, nin, nout) {
  const rows = n & ~1;
  const columns = nout & ~3;
  for (let r = 0; r < rows; r += 2) {
    for (let o = 0; o < columns; o += 4) {
      let a0 = b ? b[o] : 0;
      let a1 = b ? b[o + 1] : 0;
      let a2 = b ? b[o + 2] : 0;
      let a3 = b ? b[o + 3] : 0;
      let c0 = a0;
      let c1 = a1;
      let c2 = a2;
      let c3 = a3;
      let j = o * nin;
      const begin = x0 + r * nin;
      for (let i = begin; i < begin + nin; i++, j++) {
        const p = x[i];
        const q = x[i + nin];
        const w0 = w[j];
        const w1 = w[j + nin];
        const w2 = w[j + 2 * nin];
        const w3 = w[j + 3 * nin];
        a0 += w0 * p;
        a1 += w1 * p;
        a2 += w2 * p;
        a3 += w3 * p;
        c0 += w0 * q;
        c1 += w1 * q;
        c2 += w2 * q;
        c3 += w3 * q;
      }
      const k = y0 + r * nout + o;
      y[k] = a0;
      y[k + 1] = a1;
      y[k + 2] = a2;
      y[k + 3] = a3;
      y[k + nout] = c0;
      y[k + nout + 1] = c1;
      y[k + nout + 2] = c2;
      y[k + nout + 3] = c3;
    }
  }
  affineEdge(x, x0, w, b, y, y0, 0, rows, columns, nin, nout);
  affineEdge(x, x0, w, b, y, y0, rows, n, 0, nin, nout);
}

/** The rows and columns that do not fill a block of `affine`. */
function affineEdge(x, x0, w, b, y, y0, firstRow, endRow, firstColumn, nin, nout) {
  for (let r = firstRow; r < endRow; r++) {
    for (let o = firstColumn; o < nout; o++) {
      let sum = b ? b[o] : 0;
      for (let i = 0; i < nin; i++) sum += w[o * nin + i] * x[x0 + r * nin + i];
      y[y0 + r * nout + o] = sum;
    }
  }
}
