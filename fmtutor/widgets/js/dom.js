/** @returns {HTMLElement} A new element with a class, in a parent. */
export function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent?.append(element);
  return element;
}
