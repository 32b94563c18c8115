import { COLORS, rgb } from "./colors.js";

/**
 * Draw values on a grid over the ranges of some axes, from transparent to a colour.
 *
 * @param {import("./axes.js").Axes} axes
 * @param {Floats} values `[rows columns]`, the lowest row first.
 * @param {object} style `smooth` is whether neighbours flow into each other.
 */
export function drawHeat(
  axes,
  values,
  columns,
  { color = COLORS.data, max = Math.max(...values), alpha = 0.9, smooth = true } = {},
) {
  const rows = values.length / columns;
  axes.image ??= document.createElement("canvas");
  Object.assign(axes.image, { width: columns, height: rows });
  const paint = axes.image.getContext("2d");
  const pixels = paint.createImageData(columns, rows);
  const [red, green, blue] = rgb(color);
  for (let i = 0; i < values.length; i++) {
    const at = 4 * ((rows - 1 - Math.floor(i / columns)) * columns + (i % columns));
    const share = Math.min(1, Math.max(0, values[i] / max));
    pixels.data.set([red, green, blue, 255 * alpha * share], at);
  }
  paint.putImageData(pixels, 0, 0);
  const [left, top] = [axes.px(axes.x[0]), axes.py(axes.y[1])];
  const [right, bottom] = [axes.px(axes.x[1]), axes.py(axes.y[0])];
  const { ctx } = axes.figure;
  ctx.imageSmoothingEnabled = smooth;
  ctx.drawImage(axes.image, left, top, right - left, bottom - top);
  ctx.imageSmoothingEnabled = true;
}
