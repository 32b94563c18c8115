/**
 * The schedules of `fmtutor.paths`: x_t = α x1 + σ x0.
 *
 * @typedef {{name: string, alpha: (t: number) => number, sigma: (t: number) => number,
 *   dAlpha: (t: number) => number, dSigma: (t: number) => number,
 *   halfDVariance: (t: number) => number}} Path
 */

/** @returns {Path} α = t, σ = 1 − (1 − σ_min) t. */
export function condOT(sigmaMin = 0) {
  const sigma = (t) => 1 - t + sigmaMin * t;
  const slope = sigmaMin - 1;
  return {
    name: "CondOT",
    alpha: (t) => t,
    sigma,
    dAlpha: () => 1,
    dSigma: () => slope,
    halfDVariance: (t) => slope * sigma(t),
  };
}

/** @returns {Path} α = sin(πt/2), σ = cos(πt/2). */
export function cosine() {
  const alpha = (t) => Math.sin(0.5 * Math.PI * t);
  const sigma = (t) => Math.sin(0.5 * Math.PI * (1 - t));
  return {
    name: "Cosine",
    alpha,
    sigma,
    dAlpha: (t) => 0.5 * Math.PI * sigma(t),
    dSigma: (t) => -0.5 * Math.PI * alpha(t),
    halfDVariance: (t) => -0.5 * Math.PI * alpha(t) * sigma(t),
  };
}

/** @returns {Path} α = exp(−½ ∫_t^1 β) with β linear, σ = √(1 − α²); σ' diverges at t = 1. */
export function variancePreserving(betaMin = 0.1, betaMax = 20) {
  const integral = (t) => (1 - t) * betaMin + 0.5 * (1 - t) ** 2 * (betaMax - betaMin);
  const alpha = (t) => Math.exp(-0.5 * integral(t));
  const sigma = (t) => Math.sqrt(-Math.expm1(-integral(t)));
  const dAlpha = (t) => 0.5 * (betaMin + (1 - t) * (betaMax - betaMin)) * alpha(t);
  const halfDVariance = (t) => -alpha(t) * dAlpha(t);
  return {
    name: "VariancePreserving",
    alpha,
    sigma,
    dAlpha,
    dSigma: (t) => halfDVariance(t) / sigma(t),
    halfDVariance,
  };
}

/**
 * The path that Python described (`pack_path`).
 *
 * @returns {Path}
 */
export function unpackPath(packed) {
  const { name, ...settings } = packed ?? {};
  if (name === "CondOT") return condOT(settings.sigma_min);
  if (name === "Cosine") return cosine();
  if (name === "VariancePreserving")
    return variancePreserving(settings.beta_min, settings.beta_max);
  throw new Error(`a path called ${name} is not known`);
}
