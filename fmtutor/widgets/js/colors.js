/** The house palette: `fmtutor.plotting.COLORS`, by what a colour stands for. */
export const COLORS = {
  noise: "#56B4E9",
  data: "#D55E00",
  velocity: "#009E73",
  learned: "#CC79A7",
  exact: "#808080",
  trajectory: "#999999",
  text: "#7A7A7A",
};

/** @returns {number[]} Red, green and blue of a colour written "#rrggbb". */
export function rgb(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** The colour a given share of the way from one kind to another: `fmtutor.plotting.blend`. */
export function blend(share, start = "noise", end = "data") {
  const [a, b] = [rgb(COLORS[start]), rgb(COLORS[end])];
  const mixed = a.map((x, i) => Math.round((1 - share) * x + share * b[i]));
  return `#${mixed.map((x) => x.toString(16).padStart(2, "0")).join("")}`;
}
