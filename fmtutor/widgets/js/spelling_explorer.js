import { need } from "./checks.js";
import { COLORS } from "./colors.js";
import { addButtons, addSlider, addText } from "./controls.js";
import { live } from "./figure.js";
import { addPlayButton, animate } from "./motion.js";
import { unpack } from "./packing.js";
import { WordFilter, Writer, patternOf, tokensOf } from "./spelling.js";
import { TokenTransformer } from "./token_network.js";

/** Seconds that the way from masks to words takes when it is played. */
const DURATION = 6;
/** Milliseconds of a frame that may go into writing. */
const BUDGET = 10;

/** @param {import("./figure.js").LiveFigure} fig */
function build(fig) {
  const { words: count, columns, narrowColumns, most, known, hashes } = fig.get("_settings");
  const names = ["pattern", "steps", "time", "seed"];
  const first = names.map((name) => [name, fig.get(name)]);
  const network = TokenTransformer.unpack(fig.get("_network"));
  const filter = new WordFilter(unpack(known, "the dictionary"), hashes);
  const { length, tokens: open } = network;
  const page = fig.axes({ x: [0, 1], y: [0, 1], margin: [4, 4, 4, 22] });
  let start;
  let writer;

  function restart() {
    const [steps, seed] = ["steps", "seed"].map((name) => fig.get(name));
    need(Number.isInteger(steps) && steps >= 1 && steps <= most, "steps out of their range");
    start = tokensOf(fig.get("pattern"), network);
    writer = new Writer(network, { start, count, steps, seed });
    fig.describe(`Words that a network writes into the pattern ${fig.get("pattern")}`);
  }

  /** The step of a time: the last one whose time has come. */
  const stepOf = (time) => Math.floor(time * writer.steps + 1e-9);

  /** One word, a cell a letter. */
  function drawWord(word, x, y, cell) {
    const bold = filter.has(word);
    const ink = bold ? COLORS.data : fig.theme.exact;
    const end = word.findLastIndex((token) => token !== open - 1);
    for (let i = 0; i <= end; i++) {
      const [token, given] = [word[i], start[i] !== open];
      const blank = token === open - 1;
      const letter = token === open ? "·" : blank ? "_" : String.fromCharCode(97 + token);
      const color = token === open ? COLORS.noise : given || blank ? fig.theme.soft : ink;
      page.text(x + (i + 0.5) * cell, y, letter, { color, bold, size: token === open ? 22 : 15 });
    }
  }

  fig.onDraw(() => {
    const time = fig.get("time");
    need(time >= 0 && time <= 1, "the time lies outside of 0 and 1");
    const wanted = stepOf(time);
    if (!fig.playing) writer.advance(wanted, fig.calm ? Infinity : BUDGET);
    const step = Math.min(wanted, writer.known);
    if (step < wanted) fig.redraw();
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
    const left = words.flat().filter((token) => token === open).length;
    const real = words.filter((word) => filter.has(word)).length;
    fig.say(
      left
        ? `step ${step} of ${writer.steps}: ${left} places are open`
        : `step ${step} of ${writer.steps}: ${real} of ${count} are words of the dictionary`,
    );
  });

  const play = animate(
    fig,
    (seconds) => {
      // Never past what is written: a slow machine writes slower.
      const wanted = Math.min(1, fig.get("time") + seconds / DURATION);
      writer.advance(stepOf(wanted), BUDGET);
      const time = stepOf(wanted) > writer.known ? fig.get("time") : wanted;
      fig.set("time", time);
      return time < 1;
    },
    () => fig.get("time") >= 1 && fig.set("time", 0),
  );

  addPlayButton(fig, play, { play: "Write" });
  addSlider(fig, { label: "time t", trait: "time", min: 0, max: 1, step: 0.01 });
  addText(fig, { label: "pattern", trait: "pattern", most: length, clean: patternOf });
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
