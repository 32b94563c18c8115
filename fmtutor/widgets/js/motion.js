import { addButtons } from "./controls.js";

/**
 * An animation. It rests while the figure is out of view or its tab is hidden, and never starts
 * by itself.
 *
 * @param {import("./figure.js").LiveFigure} fig
 * @param {(seconds: number) => boolean | void} step Advances by the time since the last frame;
 *   false ends it.
 * @param {() => void} start Called when it is started, to begin again after an end, say.
 */
export function animate(fig, step, start = () => {}) {
  const loop = {
    playing: false,
    onChange: () => {},
    play() {
      if (loop.playing || fig.gone) return;
      start();
      loop.playing = true;
      loop.onChange(true);
      fig.redraw();
      loop.wake();
    },
    pause() {
      if (!loop.playing) return;
      loop.playing = false;
      cancelAnimationFrame(loop.frame);
      loop.frame = 0;
      loop.onChange(false);
      if (!fig.gone) fig.model.save_changes();
      fig.redraw();
    },
    toggle: () => (loop.playing ? loop.pause() : loop.play()),
    wake() {
      if (!loop.playing || loop.frame || !fig.visible) return;
      let last = performance.now();
      const tick = (now) =>
        fig.guard(() => {
          loop.frame = fig.visible ? requestAnimationFrame(tick) : 0;
          // After a long frame the motion goes on where it was; it does not jump.
          const seconds = Math.min(0.1, Math.max(0, now - last) / 1000);
          last = now;
          const more = step(seconds);
          if (more === false) loop.pause();
          else fig.drawNow();
        });
      loop.frame = requestAnimationFrame(tick);
    },
  };
  fig.loops.push(loop);
  return loop;
}

/**
 * An animation of the trait `time`, from 0 to 1 in so many seconds; after the end from 0 again.
 *
 * @param {import("./figure.js").LiveFigure} fig
 * @param {number} duration
 */
export function animateTime(fig, duration) {
  return animate(
    fig,
    (seconds) => {
      fig.set("time", Math.min(1, fig.get("time") + seconds / duration));
      return fig.get("time") < 1;
    },
    () => fig.get("time") >= 1 && fig.set("time", 0),
  );
}

/** A button that starts and pauses an animation. */
export function addPlayButton(fig, loop, { play = "Play", pause = "Pause" } = {}) {
  const [button] = addButtons(fig, { label: play, onClick: () => loop.toggle() });
  loop.onChange = (playing) => {
    button.textContent = playing ? pause : play;
    button.classList.toggle("fm-playing", playing);
  };
  return button;
}
