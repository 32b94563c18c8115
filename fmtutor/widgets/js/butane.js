/** Chains of four united atoms lie in flat arrays `[n 4 3]`: `fmtutor.molecules.Butane`. */

const ATOMS = 4;
/** Numbers in the array for each molecule. */
export const CHAIN = 3 * ATOMS;

const minus = (x, a, b) => [0, 1, 2].map((k) => x[a + k] - x[b + k]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

/** The three bonds of the molecule that begins at element `at`. */
function bonds(x, at) {
  return [0, 3, 6].map((i) => minus(x, at + i + 3, at + i));
}

/** Its torsion, in (−π, π]. */
export function torsion(x, at = 0) {
  const [a, b, c] = bonds(x, at);
  const [n, m] = [cross(a, b), cross(b, c)];
  const across = -dot(cross(n, b), m) / Math.sqrt(dot(b, b));
  return Math.atan2(across + 0, dot(n, m)); // −0 + 0 is 0
}

/**
 * Its energy in kT.
 *
 * @param {{bond: number[], angle: number[], torsion: number[]}} constants Length and angle at rest
 *   with the constants of their springs, and three constants of the torsion, all in kT.
 */
export function energy(x, at, constants) {
  const steps = bonds(x, at);
  const [r0, stiff] = constants.bond;
  const [theta0, bend] = constants.angle;
  let total = 0;
  for (const step of steps) total += (stiff / 2) * (Math.sqrt(dot(step, step)) - r0) ** 2;
  for (const [a, b] of [steps.slice(0, 2), steps.slice(1)]) {
    const area = cross(a, b);
    const theta = Math.atan2(Math.sqrt(dot(area, area)), -dot(a, b));
    total += (bend / 2) * (theta - theta0) ** 2;
  }
  const phi = torsion(x, at);
  const [one, two, three] = constants.torsion;
  return (
    total +
    one * (1 + Math.cos(phi)) +
    two * (1 - Math.cos(2 * phi)) +
    three * (1 + Math.cos(3 * phi))
  );
}

/** Subtract each molecule's centre, in place. */
export function centred(x) {
  for (let at = 0; at < x.length; at += CHAIN)
    for (let k = 0; k < 3; k++) {
      let mean = 0;
      for (let i = k; i < CHAIN; i += 3) mean += x[at + i] / ATOMS;
      for (let i = k; i < CHAIN; i += 3) x[at + i] -= mean;
    }
  return x;
}
