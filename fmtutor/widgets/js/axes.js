import { COLORS } from "./colors.js";
import { Rectangle } from "./rectangle.js";
import { number, runs } from "./words.js";

/** A rectangle of the stage with its own coordinates, and what can be drawn in it. */
export class Axes extends Rectangle {
  /**
   * Dots at points `[n 2]`.
   *
   * @param {Floats | number[]} xy
   * @param {{color?: string, radius?: number, alpha?: number}} style
   */
  points(xy, { color = COLORS.data, radius = 1.6, alpha = 0.7 } = {}) {
    const { ctx } = this.figure;
    ctx.globalAlpha = alpha;
    ctx.fillStyle = color;
    ctx.beginPath();
    for (let i = 0; i + 1 < xy.length; i += 2) {
      const [x, y] = [this.px(xy[i]), this.py(xy[i + 1])];
      ctx.moveTo(x + radius, y);
      ctx.arc(x, y, radius, 0, 2 * Math.PI);
    }
    ctx.fill();
    ctx.globalAlpha = 1;
  }

  /** A line through points `[n 2]`. */
  line(xy, { color = COLORS.trajectory, width = 1.5, alpha = 1, dash = [], close = false } = {}) {
    const { ctx } = this.figure;
    ctx.beginPath();
    for (let i = 0; i + 1 < xy.length; i += 2) ctx.lineTo(this.px(xy[i]), this.py(xy[i + 1]));
    if (close) ctx.closePath();
    this.stroke({ color, width, alpha, dash });
  }

  /** Stroke the current path. */
  stroke({ color = COLORS.trajectory, width = 1.5, alpha = 1, dash = [] } = {}) {
    const { ctx } = this.figure;
    ctx.globalAlpha = alpha;
    ctx.strokeStyle = color;
    ctx.lineWidth = width;
    ctx.lineJoin = ctx.lineCap = "round";
    ctx.setLineDash(dash);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.globalAlpha = 1;
  }

  /** The area between a line through points `[n 2]` and the height `base`. */
  area(xy, { base = 0, color = COLORS.data, alpha = 0.25 } = {}) {
    const { ctx } = this.figure;
    ctx.globalAlpha = alpha;
    ctx.fillStyle = color;
    ctx.beginPath();
    ctx.moveTo(this.px(xy[0]), this.py(base));
    for (let i = 0; i + 1 < xy.length; i += 2) ctx.lineTo(this.px(xy[i]), this.py(xy[i + 1]));
    ctx.lineTo(this.px(xy[xy.length - 2]), this.py(base));
    ctx.fill();
    ctx.globalAlpha = 1;
  }

  /**
   * Arrows at points `[n 2]` along velocities `[n 2]`.
   *
   * @param {{color?: string, scale?: number, width?: number, alpha?: number}} style `scale` is the
   *   length, in coordinates, of a velocity of one.
   */
  arrows(xy, uv, { color = COLORS.velocity, scale = 1, width = 1.4, alpha = 0.9 } = {}) {
    const { ctx } = this.figure;
    ctx.beginPath();
    for (let i = 0; i + 1 < xy.length; i += 2) {
      const [x, y] = [this.px(xy[i]), this.py(xy[i + 1])];
      const [dx, dy] = [scale * this.scaleX * uv[i], -scale * this.scaleY * uv[i + 1]];
      const length = Math.hypot(dx, dy);
      if (!(length > 0.5)) continue;
      const head = Math.min(3 + 2 * width, 0.5 * length) / length;
      ctx.moveTo(x, y);
      ctx.lineTo(x + dx, y + dy);
      ctx.moveTo(x + dx - head * (dx - 0.6 * dy), y + dy - head * (dy + 0.6 * dx));
      ctx.lineTo(x + dx, y + dy);
      ctx.lineTo(x + dx - head * (dx + 0.6 * dy), y + dy - head * (dy - 0.6 * dx));
    }
    this.stroke({ color, width, alpha });
  }

  /** A circle with its radius in coordinates. */
  ring(x, y, radius, { color = COLORS.noise, width = 1.5, alpha = 1, fill = 0 } = {}) {
    const { ctx } = this.figure;
    ctx.beginPath();
    const [rx, ry] = [radius * this.scaleX, radius * this.scaleY];
    ctx.ellipse(this.px(x), this.py(y), rx, ry, 0, 0, 2 * Math.PI);
    ctx.fillStyle = color;
    ctx.globalAlpha = fill;
    if (fill) ctx.fill();
    this.stroke({ color, width, alpha });
  }

  /** Words at a place, moved by pixels. */
  text(x, y, words, { color, align = "center", dx = 0, dy = 0, size = 13, bold = false } = {}) {
    const { ctx, theme } = this.figure;
    ctx.fillStyle = color ?? theme.ink;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    // A font's own subscripts are too small to be read on a phone.
    const parts = runs(words).map(({ text, shift }) => {
      const font = `${bold ? "600 " : ""}${shift ? 0.78 * size : size}px ${theme.font}`;
      ctx.font = font;
      return { text, font, down: shift * size, width: ctx.measureText(text).width };
    });
    const total = parts.reduce((sum, part) => sum + part.width, 0);
    let left = this.px(x) + dx - { left: 0, center: 0.5, right: 1 }[align] * total;
    for (const { text, font, down, width } of parts) {
      ctx.font = font;
      ctx.fillText(text, left, this.py(y) + dy + down);
      left += width;
    }
  }

  /** Words above the rectangle's top edge, inside it. */
  title(words, style = {}) {
    const middle = (this.left + this.width / 2 - this.originX) / this.scaleX;
    this.text(middle, (this.originY - this.top) / this.scaleY, words, { dy: 10, ...style });
  }

  /** Left and lower edge with ticks and names; it needs a margin of about 44 and 36 pixels. */
  frame({ xticks = [], yticks = [], xlabel = "", ylabel = "", digits = 1 } = {}) {
    const { ctx, theme } = this.figure;
    const [right, bottom] = [this.left + this.width, this.top + this.height];
    ctx.beginPath();
    ctx.moveTo(this.left, this.top);
    ctx.lineTo(this.left, bottom);
    ctx.lineTo(right, bottom);
    this.stroke({ color: theme.faint, width: 1 });
    ctx.fillStyle = theme.soft;
    ctx.font = `12px ${theme.font}`;
    ctx.textAlign = "center";
    ctx.textBaseline = "top";
    for (const x of xticks) ctx.fillText(number(x, digits), this.px(x), bottom + 5);
    ctx.fillText(xlabel, this.left + this.width / 2, bottom + 20);
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    for (const y of yticks) ctx.fillText(number(y, digits), this.left - 5, this.py(y));
    ctx.save();
    ctx.translate(this.left - 36, this.top + this.height / 2);
    ctx.rotate(-Math.PI / 2);
    ctx.textAlign = "center";
    ctx.fillText(ylabel, 0, 0);
    ctx.restore();
  }

  /** Draw only within the rectangle. */
  clip(draw) {
    const { ctx } = this.figure;
    ctx.save();
    ctx.beginPath();
    ctx.rect(this.left, this.top, this.width, this.height);
    ctx.clip();
    draw();
    ctx.restore();
  }
}
