/** Below this width, in CSS pixels, panels stand below each other. */
const NARROW = 480;

/** A rectangle of the stage with its own coordinates. */
export class Rectangle {
  /**
   * @param {import("./figure.js").LiveFigure} figure
   * @param {object} settings
   * @param {[number, number]} settings.x Range shown.
   * @param {[number, number]} settings.y Range shown.
   * @param {boolean} [settings.equal] One scale for both; the ranges grow to fill the rectangle.
   * @param {number[]} [settings.box] Left, top, right, bottom, as shares of the stage.
   * @param {number[]} [settings.narrowBox] The same on a narrow screen.
   * @param {number[]} [settings.margin] Left, top, right, bottom, in pixels.
   */
  constructor(figure, { x, y, equal = false, box = [0, 0, 1, 1], narrowBox = box, margin }) {
    Object.assign(this, { figure, x, y, equal, box, narrowBox });
    this.margin = margin ?? [6, 6, 6, 6];
    this.layout();
  }

  /** Fit the coordinates to the stage; the figure calls this before it draws. */
  layout() {
    const { width, height } = this.figure;
    const box = width < NARROW ? this.narrowBox : this.box;
    const [left, top, right, bottom] = this.margin;
    this.left = box[0] * width + left;
    this.top = box[1] * height + top;
    this.width = Math.max(1, (box[2] - box[0]) * width - left - right);
    this.height = Math.max(1, (box[3] - box[1]) * height - top - bottom);
    this.scaleX = this.width / (this.x[1] - this.x[0]);
    this.scaleY = this.height / (this.y[1] - this.y[0]);
    if (this.equal) this.scaleX = this.scaleY = Math.min(this.scaleX, this.scaleY);
    this.originX = this.left + this.width / 2 - (this.scaleX * (this.x[0] + this.x[1])) / 2;
    this.originY = this.top + this.height / 2 + (this.scaleY * (this.y[0] + this.y[1])) / 2;
  }

  /** @returns {number} Pixels from the left of the stage. */
  px(x) {
    return this.originX + this.scaleX * x;
  }

  /** @returns {number} Pixels from the top of the stage. */
  py(y) {
    return this.originY - this.scaleY * y;
  }

  /** @returns {[number, number]} The coordinates of a place on the stage, kept within the ranges. */
  locate(px, py) {
    const within = ([low, high], value) => Math.min(high, Math.max(low, value));
    return [
      within(this.x, (px - this.originX) / this.scaleX),
      within(this.y, (this.originY - py) / this.scaleY),
    ];
  }

  /** Whether a place on the stage lies in this rectangle. */
  contains(px, py) {
    const { left, top, width, height } = this;
    return px >= left && px <= left + width && py >= top && py <= top + height;
  }
}
