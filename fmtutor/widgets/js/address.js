/** An address that holds settings ends on this and a query. */
const MARK = "#playground?";

/**
 * What an address may hold: for each key a trait, and what reads its value; undefined if it is bad.
 *
 * @typedef {{[key: string]: [string, (text: string) => any]}} Keys
 */

/** Take over what the address holds. @returns {string} A sentence on what was refused. */
export function readAddress(fig, keys) {
  if (!location.hash.startsWith(MARK)) return "";
  const refused = [];
  for (const [key, text] of new URLSearchParams(location.hash.slice(MARK.length))) {
    const value = Object.hasOwn(keys, key) ? keys[key][1](text) : undefined;
    if (value === undefined) refused.push(`${key}=${text}`.slice(0, 40));
    else fig.set(keys[key][0], value);
  }
  return refused.length ? `Left out of the address: ${refused.slice(0, 3).join(", ")}.` : "";
}

/** Put the settings into the address and the clipboard. @returns {string} A sentence on it. */
export function writeAddress(fig, keys) {
  // A notebook's address is not this page's: there the settings are the figure's traits.
  if (fig.model.widget_manager) return "In a notebook the settings are this figure's traits.";
  const query = new URLSearchParams();
  for (const [key, [trait, accept]] of Object.entries(keys))
    if (accept(String(fig.get(trait))) !== undefined) query.set(key, fig.get(trait));
  history.replaceState(null, "", MARK + query);
  navigator.clipboard?.writeText(location.href).catch(() => {});
  return "This page's address now holds the settings; it is copied where the browser allows it.";
}
