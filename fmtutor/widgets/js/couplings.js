import { need } from "./checks.js";

/** @returns {Float64Array} ‖a_i − b_j‖², `[n m]`. */
export function squaredDistances(a, b, dim = 2) {
  const [n, m] = [a.length / dim, b.length / dim];
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++)
      for (let k = 0; k < dim; k++) out[i * m + j] += (a[i * dim + k] - b[j * dim + k]) ** 2;
  return out;
}

/**
 * The permutation of least total cost, by shortest augmenting paths (Jonker and Volgenant), O(n³).
 *
 * @param {Floats} cost `[n n]`
 * @returns {Int32Array} The column of each row.
 */
export function assign(cost, n) {
  const rowPotential = new Float64Array(n + 1);
  const columnPotential = new Float64Array(n + 1);
  const rowOf = new Int32Array(n + 1).fill(-1); // of each column; column n is where a path starts
  const before = new Int32Array(n + 1);
  const slack = new Float64Array(n + 1);
  const reached = new Uint8Array(n + 1);
  for (let row = 0; row < n; row++) {
    rowOf[n] = row;
    slack.fill(Infinity);
    reached.fill(0);
    let column = n;
    while (rowOf[column] !== -1) {
      reached[column] = 1;
      const i = rowOf[column];
      let [least, next] = [Infinity, -1];
      for (let j = 0; j < n; j++) {
        if (reached[j]) continue;
        const reduced = cost[i * n + j] - rowPotential[i] - columnPotential[j];
        if (reduced < slack[j]) [slack[j], before[j]] = [reduced, column];
        if (slack[j] < least) [least, next] = [slack[j], j];
      }
      need(next >= 0, "a cost is not a number");
      for (let j = 0; j <= n; j++) {
        if (!reached[j]) slack[j] -= least;
        else {
          rowPotential[rowOf[j]] += least;
          columnPotential[j] -= least;
        }
      }
      column = next;
    }
    for (; column !== n; column = before[column]) rowOf[column] = rowOf[before[column]];
  }
  const result = new Int32Array(n);
  for (let j = 0; j < n; j++) result[rowOf[j]] = j;
  return result;
}
