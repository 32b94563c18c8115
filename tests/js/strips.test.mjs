import assert from "node:assert/strict";
import test from "node:test";

import { Strips } from "../../fmtutor/widgets/js/strips.js";
import { close, fixtures } from "./fixtures.mjs";

const TOLERANCE = 1e-5;

for (const { points, sigmaMin, end, x, t, expected, starts, ends } of fixtures.strips) {
  const strips = new Strips(points, sigmaMin, end);
  const name = `points ${points}, width ${sigmaMin}`;

  test(`densities, weights, velocities and variance: ${name}`, () => {
    t.forEach((time, k) => {
      x.forEach((place, j) => {
        const { weights, velocities, mean, variance } = strips.at(place, time);
        const densities = [0, 1].map((i) => strips.density(place, time, i));
        const found = { weights, velocities, mean: [mean], variance: [variance], densities };
        for (const [key, values] of Object.entries(found))
          close(values, [expected[key][k][j]], TOLERANCE, `${key} at ${place}, ${time}`);
        const both = 0.5 * (densities[0] + densities[1]);
        close([strips.mixture(place, time)], [both], TOLERANCE, "density of the mixture");
      });
    });
  });

  test(`tracks start and end where the package says, and never cross: ${name}`, () => {
    const tracks = starts.map((start) => strips.track(start, 0));
    close(tracks.map((track) => track.at(-1)), ends, TOLERANCE, "end of a track");
    close(tracks.map((track) => track.at(-2)), starts.map(() => end), 1e-12, "its time");
    for (let k = 1; k < tracks.length; k++)
      for (let i = 1; i < tracks[k].length; i += 2)
        assert.ok(tracks[k][i] > tracks[k - 1][i], `tracks ${k - 1} and ${k} meet`);
  });

  test(`through a place pass two lines and one track: ${name}`, () => {
    for (const [place, time] of [[0.3, 0.5], [-1.2, 0.2], [0.1, 0], [0.7, 0.8]]) {
      for (const i of [0, 1]) {
        const [, begin, , stop] = strips.line(place, time, i);
        close([begin + (stop - begin) * time], [place], TOLERANCE, "the line passes");
        close([stop - begin], [strips.conditional(place, time, i)], TOLERANCE, "its slope");
      }
      const track = strips.track(place, time);
      const passes = track.some((x, i) => i % 2 && x === place && track[i - 1] === time);
      assert.ok(passes, "the track passes");
      const begin = track[1];
      const again = strips.track(begin, 0).at(-1);
      close([again], [track.at(-1)], TOLERANCE, "forward and back is the same track");
    }
  });
}
