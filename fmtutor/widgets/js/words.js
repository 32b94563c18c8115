/** A number as a reader sees it: a true minus sign, a fixed number of digits; huge ones by a power. */
export function number(value, digits = 2) {
  if (Math.abs(value) >= 1e6 && Number.isFinite(value)) return scientific(value, digits);
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

/** A number as digits and a power of ten. */
export function scientific(value, digits = 1) {
  const [factor, power] = value.toExponential(digits).split("e");
  return `${number(Number(factor), digits)}·10${raised(Number(power))}`;
}

/** A whole number as an exponent. */
export function raised(power) {
  return [...String(power)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
}

/** What stands lower or higher, and the characters that are written there. */
const SUBSCRIPTS = { from: "ₜ₀₁₂₃", to: "t0123", shift: 0.22 };
const SUPERSCRIPTS = { from: "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", to: "−0123456789", shift: -0.3 };

/**
 * Cut words into runs that stand on the line, below it or above it.
 *
 * @param {string} words
 * @returns {{text: string, shift: number}[]} Shifts are shares of the size of the letters.
 */
export function runs(words) {
  const found = [];
  for (const character of words) {
    const script = [SUBSCRIPTS, SUPERSCRIPTS].find(({ from }) => from.includes(character));
    const text = script ? script.to[script.from.indexOf(character)] : character;
    const shift = script?.shift ?? 0;
    if (found.at(-1)?.shift === shift) found.at(-1).text += text;
    else found.push({ text, shift });
  }
  return found;
}
