/**
 * Draw with the pointer over some axes: a mouse with its button down, or a finger.
 *
 * @param {import("./figure.js").LiveFigure} fig
 * @param {import("./axes.js").Axes} axes
 * @param {(x: number, y: number) => void} draw
 */
export function addPen(fig, axes, draw) {
  fig.canvas.classList.add("fm-active");
  const follow = (event) => {
    const place = fig.place(event);
    if (!axes.contains(...place)) return;
    if (event.type === "pointermove" && !event.buttons) return;
    draw(...axes.locate(...place));
    fig.redraw();
  };
  fig.listen(fig.canvas, "pointerdown", follow);
  fig.listen(fig.canvas, "pointermove", follow);
}
