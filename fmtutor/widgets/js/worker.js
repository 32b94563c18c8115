/**
 * Start a Web Worker that holds the figure's module and runs one of its functions with `self`.
 *
 * @param {any} model The source is its `_esm`: the module itself may be known under no address.
 * @param {(self: any) => void} serve A function at the top of a module of the figure.
 * @returns {Worker} End it with `terminate()`.
 */
export function spawn(model, serve) {
  const source = `${model.get("_esm")}\n;${serve.name}(self);`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  worker.addEventListener("message", () => URL.revokeObjectURL(url), { once: true });
  return worker;
}
