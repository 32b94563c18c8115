import { COLORS, rgb } from "./colors.js";

/** Draws square pictures as ink: from transparent at −1 to a colour at 1. */
export class Tiles {
  /**
   * @param {import("./figure.js").LiveFigure} fig
   * @param {number} side Pixels along each side of a picture.
   */
  constructor(fig, side) {
    this.fig = fig;
    this.stamp = Object.assign(document.createElement("canvas"), { width: side, height: side });
    this.context = this.stamp.getContext("2d");
    this.pixels = this.context.createImageData(side, side);
  }

  /** A picture, from element `at` on, in a square of the stage. */
  draw(x, at, left, top, size, color, alpha = 1) {
    this.paper(left, top, size);
    const { ctx } = this.fig;
    const [red, green, blue] = rgb(color);
    for (let i = 0; i < this.pixels.data.length / 4; i++)
      this.pixels.data.set([red, green, blue, 127.5 * (x[at + i] + 1)], 4 * i);
    this.context.putImageData(this.pixels, 0, 0);
    // Each pixel is a square, unless there are more of them than the screen has.
    ctx.imageSmoothingEnabled = size * (window.devicePixelRatio || 1) < this.stamp.width;
    ctx.globalAlpha = alpha;
    ctx.drawImage(this.stamp, left, top, size, size);
    ctx.globalAlpha = 1;
  }

  /** The ground on which a picture stands. */
  paper(left, top, size) {
    const { ctx } = this.fig;
    ctx.globalAlpha = 0.12;
    ctx.fillStyle = COLORS.exact;
    ctx.fillRect(left, top, size, size);
    ctx.globalAlpha = 1;
  }
}
