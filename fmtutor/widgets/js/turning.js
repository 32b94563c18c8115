import { addSlider } from "./controls.js";
import { number } from "./words.js";

const DEGREE = Math.PI / 180;

/** A point of the sphere from its angles in degrees. */
export function place(latitude, longitude) {
  const [a, b] = [latitude * DEGREE, longitude * DEGREE];
  return [Math.cos(a) * Math.cos(b), Math.cos(a) * Math.sin(b), Math.sin(a)];
}

/** The view from the traits `latitude` and `longitude`: right, up and towards the reader. */
export function frame(fig) {
  const [north, east] = [fig.get("latitude"), fig.get("longitude")];
  const ahead = place(north, east);
  const right = [-Math.sin(east * DEGREE), Math.cos(east * DEGREE), 0];
  const up = [
    ahead[1] * right[2] - ahead[2] * right[1],
    ahead[2] * right[0] - ahead[0] * right[2],
    ahead[0] * right[1] - ahead[1] * right[0],
  ];
  return { right, up, ahead };
}

/** How far a point of `x` `[n 3]`, from element i on, lies along a direction. */
export function along(x, i, direction) {
  return x[i] * direction[0] + x[i + 1] * direction[1] + x[i + 2] * direction[2];
}

/** Turn the view by dragging: a point at the distance `radius` stays under the pointer. */
export function turnByDragging(fig, axes, radius = 1) {
  fig.canvas.classList.add("fm-active");
  let start = null;
  fig.listen(fig.canvas, "pointerdown", (event) => {
    const at = fig.place(event);
    const [east, north] = [fig.get("longitude"), fig.get("latitude")];
    start = axes.contains(...at) ? { at, east, north } : null;
  });
  fig.listen(fig.canvas, "pointermove", (event) => {
    if (!event.buttons || !start) return;
    const [dx, dy] = fig.place(event).map((p, i) => p - start.at[i]);
    const turn = (pixels) => pixels / (radius * axes.scaleX * DEGREE);
    const [east, north] = [start.east - turn(dx), start.north + turn(dy)];
    fig.set("longitude", Math.round(((((east + 180) % 360) + 360) % 360) - 180));
    fig.set("latitude", Math.round(Math.max(-90, Math.min(90, north))));
  });
}

/** Two sliders that turn the view. */
export function addTurns(fig) {
  const angle = { step: 1, format: (v) => `${number(v, 0)}°` };
  addSlider(fig, { label: "turn east", trait: "longitude", min: -180, max: 180, ...angle });
  addSlider(fig, { label: "turn north", trait: "latitude", min: -90, max: 90, ...angle });
}
