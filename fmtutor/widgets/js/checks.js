/**
 * Throw where something a figure rests on does not hold; the figure then shows its picture.
 *
 * @param {unknown} condition
 * @param {string} message
 */
export function need(condition, message) {
  if (!condition) throw new Error(message);
}
