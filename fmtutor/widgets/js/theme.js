/**
 * What the page's theme means for a drawing: Axes and figures read it as `fig.theme`.
 *
 * @param {HTMLElement} root Whose text has the theme's colour and font.
 */
export function readTheme(root) {
  const { color, fontFamily } = getComputedStyle(root);
  const [red, green, blue] = color.match(/[\d.]+/g).map(Number);
  const dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 128; // light ink, dark page
  const ink = (alpha) => `rgba(${red}, ${green}, ${blue}, ${alpha})`;
  // Black on white, white on black: what is exact.
  const exact = dark ? "#ffffff" : "#000000";
  return { dark, exact, ink: ink(1), soft: ink(0.75), faint: ink(0.35), font: fontFamily };
}

/**
 * Call a function whenever the page may have another theme.
 *
 * @returns {() => void} Ends it.
 */
export function watchTheme(react) {
  const observer = new MutationObserver(react);
  for (const element of [document.documentElement, document.body])
    observer.observe(element, { attributes: true });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", react);
  return () => {
    observer.disconnect();
    scheme.removeEventListener("change", react);
  };
}
