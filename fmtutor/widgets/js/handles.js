import { COLORS } from "./colors.js";
import { make } from "./dom.js";
import { number } from "./words.js";

/** The direction of each arrow key. */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };

/**
 * A point that is dragged with mouse, finger or arrow keys (with Shift in larger steps).
 *
 * It is a real element over the canvas, so it can be focused and its place is read out. The
 * figure draws whatever else belongs to the point.
 *
 * @param {import("./figure.js").LiveFigure} fig
 * @param {object} s
 * @param {import("./axes.js").Axes} s.axes
 * @param {string} s.label
 * @param {() => [number, number]} s.at Where the point is.
 * @param {(x: number, y: number) => void} s.move Puts it elsewhere; should set a trait.
 * @param {string} [s.color]
 * @param {number} [s.step] Of an arrow key, in coordinates.
 * @param {string} [s.lock] "x" or "y": the only direction in which it moves.
 */
export function addHandle(fig, { axes, label, at, move, color = COLORS.data, step = 0.1, lock }) {
  const knob = make("button", "fm-handle", fig.stage);
  knob.type = "button";
  knob.style.setProperty("--fm-color", color);
  knob.setAttribute("role", "slider");
  knob.setAttribute("aria-label", label);
  const go = (x, y) => {
    const [oldX, oldY] = at();
    move(lock === "y" ? oldX : x, lock === "x" ? oldY : y);
    fig.redraw();
  };
  fig.listen(knob, "keydown", (event) => {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    let [dx, dy] = ARROWS[event.key].map((d) => d * step * (event.shiftKey ? 5 : 1));
    // Where there is one direction, both pairs of keys go along it, as on any slider.
    if (lock) dx = dy = dx || dy;
    const [x, y] = at();
    go(...axes.locate(axes.px(x + dx), axes.py(y + dy)));
  });
  fig.listen(knob, "pointerdown", (event) => knob.setPointerCapture(event.pointerId));
  fig.listen(knob, "pointermove", (event) => {
    if (knob.hasPointerCapture(event.pointerId)) go(...axes.locate(...fig.place(event)));
  });
  fig.afterDraw.push(() => putKnob(knob, axes, at(), lock));
  fig.redraw();
  return { knob, axes, at };
}

/** Put a knob where its point is, and say where that is. */
function putKnob(knob, axes, [x, y], lock) {
  // On whole pixels of the screen: between them a small disc is not round.
  const ratio = window.devicePixelRatio || 1;
  const [px, py] = [axes.px(x), axes.py(y)].map((p) => Math.round(p * ratio) / ratio);
  knob.style.transform = `translate(${px}px, ${py}px)`;
  knob.setAttribute("aria-valuenow", lock === "y" ? y : x);
  knob.setAttribute("aria-valuetext", `${number(x)}, ${number(y)}`);
}
