import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addButtons, addSlider, addText } from "./controls.js";
import { live } from "./figure.js";
import { addPlayButton, animate } from "./motion.js";
import { unpack } from "./packing.js";
import { WordFilter, Writer, patternOf, spelled, tokensOf } from "./spelling.js";
import { TokenTransformer } from "./token_network.js";

/** Seconds that the way from masks to words takes when it is played. */
const DURATION = 6;
/** Milliseconds of a frame that may go into writing. */
const BUDGET = 10;

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const settings = fig.get("_settings");
  const { words: count, columns, narrowColumns, most, dictionary, hashes } = settings;
  const names = ["pattern", "steps", "time", "seed"];
  const first = names.map((name) => [name, fig.get(name)]);
  const network = TokenTransformer.unpack(fig.get("_network"));
  const filter = new WordFilter(unpack(dictionary, "the dictionary"), hashes);
  const { length, tokens: open } = network;
  const page = fig.axes({ x: [0, 1], y: [0, 1], margin: [4, 4, 4, 22] });
  let start;
  let writer;

  function restart() {
    const [steps, seed] = ["steps", "seed"].map((name) => fig.get(name));
    need(Number.isInteger(steps) && steps >= 1 && steps <= most, "steps out of their range");
    start = tokensOf(fig.get("pattern"), network);
    writer = new Writer(network, { start, count, steps, seed });
  }

  /** The step of a time: the last one whose time has come. */
  const stepOf = (time) => Math.floor(time * writer.steps + 1e-9);

  /** One word, a cell a letter. */
  function drawWord(word, x, y, cell) {
    const bold = filter.has(word);
    const ink = bold ? COLORS.data : fig.theme.exact;
    const size = Math.min(15, 1.05 * cell * page.width);
    spelled(word).forEach((mark, i) => {
      const at = [x + (i + 0.5) * cell, y];
      const soft = mark === "_" || start[i] !== open;
      if (mark === "·") page.text(...at, mark, { color: COLORS.noise, size: 1.5 * size });
      else page.text(...at, mark, { color: soft ? fig.theme.soft : ink, bold, size });
    });
  }

  fig.onDraw(() => {
    const time = fig.get("time");
    need(time >= 0 && time <= 1, "the time lies outside of 0 and 1");
    const wanted = stepOf(time);
    if (!fig.playing) writer.advance(wanted, fig.calm ? Infinity : BUDGET);
    const step = Math.min(wanted, writer.known);
    const across = fig.width <= 480 ? narrowColumns : columns;
    const down = Math.ceil(count / across);
    const cell = 1 / across / (length + 1);
    const words = writer.words(step);
    words.forEach((word, k) => {
      const [column, row] = [Math.floor(k / down), k % down];
      drawWord(word, column / across + cell / 2, 1 - (row + 0.5) / down, cell);
    });
    const small = { size: 12, color: fig.theme.soft, align: "left", dy: 12 };
    page.text(cell / 2, 0, "orange, bold: in the dictionary; _ is a blank", small);
    // What is written while nobody plays is told when it is there, not on its way.
    if (step < wanted) return fig.redraw();
    const left = words.flat().filter((token) => token === open).length;
    const real = words.filter((word) => filter.has(word)).length;
    const places = left === 1 ? "place is" : "places are";
    fig.say(
      left
        ? `step ${step} of ${writer.steps}: ${left} ${places} open`
        : `step ${step} of ${writer.steps}: ${real} of ${count} are words of the dictionary`,
    );
    if (fig.playing) return;
    const all = words.map((word) => spelled(word).join("")).join(", ");
    fig.describe(`Words that a network writes into the pattern ${fig.get("pattern")}: ${all}`);
  });

  const play = animate(
    fig,
    (seconds) => {
      // Never past what is written: a slow machine writes slower.
      const wanted = Math.min(1, fig.get("time") + seconds / DURATION);
      // The next step is written while this one is seen.
      writer.advance(Math.min(writer.steps, stepOf(wanted) + 1), BUDGET);
      const time = stepOf(wanted) > writer.known ? fig.get("time") : wanted;
      fig.set("time", time);
      return time < 1;
    },
    () => fig.get("time") >= 1 && fig.set("time", 0),
  );

  addPlayButton(fig, play, { play: "Write" });
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.01 });
  addText(fig, {
    ...{ label: "pattern", trait: "pattern", hint: "letters, and a dot for each open place" },
    clean: (typed) => patternOf(typed, length),
  });
  addSlider(fig, {
    ...{ label: "steps", trait: "steps", min: 1, max: most, step: 1, format: (n) => `${n}` },
  });
  addButtons(
    fig,
    { label: "Other words", onClick: () => fig.set("seed", (fig.get("seed") + 1) % 1000) },
    { label: "Reset", onClick: () => (play.pause(), first.forEach(([name, v]) => fig.set(name, v))) },
  );
  fig.on("time");
  fig.on(["pattern", "steps", "seed"], restart);
  restart();
}

export default live("Words that a network writes", build);
