"""Right answers to every exercise, each written another way than the exercise's reference."""

import itertools
import math

import torch
from scipy.optimize import linear_sum_assignment

from fmtutor import CondOT, EmpiricalField, divergence, sample
from fmtutor.jumps import sample_tokens
from fmtutor.paths import BrownianBridge


def turn(x):
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


def as_images(t, x):
    return t.reshape(-1, *[1] * (x.ndim - 1))


def derivative(f, t):
    """The derivative of f(t), by autograd."""
    t = t.detach().requires_grad_()
    return torch.autograd.grad(f(t).sum(), t)[0]


# analysis


def rate(a, c, t):
    """Differentiate the distribution function."""
    return derivative(lambda s: torch.special.ndtr((a - s * c) / (1 - s)), t)


def coarse(sign, t):
    """Weigh the data points by how much of each strip has the sign."""
    z = sign * t / (1 - t)
    near, far = torch.special.ndtr(z), torch.special.ndtr(-z)
    return near - far


def potential(u, x):
    """Walk the ray in small steps, as a sum of forces times ways."""
    total, n = torch.zeros_like(x[:, 0]), 300
    for k in range(n):
        here, there = k / n * x, (k + 1) / n * x
        total = total + ((u(here) + u(there)) / 2 * (there - here)).sum(1)
    return total


# continuity


def velocity_from_cdf(cdf, x, t):
    return -derivative(lambda s: cdf(x, s), t) / derivative(lambda y: cdf(y, t), x)


def residual(p, u, x, t):
    """Take both terms from difference quotients."""
    h = 1e-5

    def slope(f, x_step, t_step):
        return (f(x + x_step, t + t_step) - f(x - x_step, t - t_step)) / (2 * h)

    return slope(p, 0, h) + slope(lambda x, t: p(x, t) * u(x, t), h, 0)


def second_field(x, t):
    """Turn the first coordinate and the second, brought to unit width, into each other."""
    unit = torch.stack([x[:, 0], x[:, 1] / (1 + t)], dim=1)
    turned = -0.5 * turn(unit)
    return torch.stack([turned[:, 0], (1 + t) * turned[:, 1] + x[:, 1] / (1 + t)], dim=1)


def field_of_mixture(p, u, q, w, weight):
    share = torch.sigmoid((weight * p).log() - ((1 - weight) * q).log())[:, None]
    return torch.lerp(w, u, share)


# couplings


def partners(x0, x1):
    partner = torch.empty_like(x1)
    partner[x0.argsort()] = x1.sort().values
    return partner


def labels_along(x0, x1, labels):
    # Of the squared distance only the product depends on the pairing.
    return labels[torch.as_tensor(linear_sum_assignment(-(x0 @ x1.T))[1])]


def bends(path, times):
    h = times.diff()
    velocity = path.diff(dim=0) / h[:, None, None]
    energy = (h * velocity.square().sum(2).mean(1)).sum()
    return energy - (path[-1] - path[0]).square().sum(1).mean()  # the chord is the mean velocity


def flow_pairs(v, x0, steps):
    return torch.stack([x0, sample(v, x0, steps=steps)], dim=1)


# flows


def spiral(x, t):
    """Differentiate the flow map at the start of the particle that is at x."""
    angle = math.pi * t[:, None]
    x0 = (angle.cos() * x - angle.sin() * turn(x)) / (1 + t[:, None]) ** 2

    def flow(s):
        s = s[:, None]
        turned = (math.pi * s).cos() * x0 + (math.pi * s).sin() * turn(x0)
        return (1 + s) ** 2 * turned

    first, second = (lambda s: flow(s)[:, 0]), (lambda s: flow(s)[:, 1])
    return torch.stack([derivative(first, t), derivative(second, t)], dim=1)


def splitting(y):
    """Change variables with the derivative of the inverse map, by autograd."""

    def start(y):
        return torch.asinh(math.exp(-3) * torch.sinh(y))

    normal = torch.distributions.Normal(0.0, 1.0)
    return (normal.log_prob(start(y)) + derivative(start, y).log())[:, 0]


def ends(x0, data):
    """Cut the line into n pieces of equal noise."""
    cuts = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0, 1, len(data) + 1).double())
    return data.sort().values[torch.bucketize(x0, cuts[1:-1])]


# guidance


def guided_between(v_cond, v_uncond, scale, first, last):
    def v(x, t):
        s = torch.where((t >= first) & (t < last), scale, 1.0)[:, None]
        return v_uncond(x, t) + s * (v_cond(x, t) - v_uncond(x, t))

    return v


def average(u_of, log_p, prior):
    joint = log_p + prior.log()[:, None]
    return torch.einsum("kb,kbd->bd", (joint - joint.logsumexp(0)).exp(), u_of)


# images


def patches(x, p):
    b, c, h, w = x.shape
    cut = x.reshape(b, c, h // p, p, w // p, p).permute(0, 1, 3, 5, 2, 4)
    return cut.reshape(b, c * p * p, h // p, w // p)


def frechet(m_a, a, m_b, b):
    # tr √(√A B √A) is the sum of the roots of the eigenvalues of AB.
    cross = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()
    return (m_a - m_b) @ (m_a - m_b) + a.trace() + b.trace() - 2 * cross


# likelihood


def augmented(v, state, t):
    x = state[:, :-1]
    return torch.cat([v(x, t), divergence(v, x, t)[:, None]], 1)


def signs(d):
    """All vectors of d signs, `[2^d d]`."""
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * d).reshape(-1, d)


def probe_variance(jacobians):
    """Take the variance over all probes that there are."""
    z = signs(jacobians.shape[-1])
    return torch.einsum("pi,bij,pj->bp", z, jacobians, z).var(1, correction=0)


def two_variances(jacobians):
    kept = probe_variance(jacobians.mean(0, keepdim=True))[0]
    return torch.stack([kept, (probe_variance(jacobians) / len(jacobians) ** 2).sum()])


def excess_of_mode(d, s):
    # log p = const − |x|²/(2s²), and |x|²/s² is chi-square: mean d, variance 2d.
    return (d / 2) / math.sqrt(2 * d / 4)


# marginal


def two_points(x, t, a):
    return EmpiricalField(CondOT(), torch.stack([a, -a]))(x, t)


def field_with_prior(x, t, data, prior):
    """Weigh the conditional velocities, the largest exponential made 1 by hand."""
    time = t[:, None, None]
    exponent = -0.5 * ((x[:, None] - time * data) / (1 - time)).square().sum(2)
    exponent = exponent.masked_fill(prior == 0, -math.inf)
    w = prior * (exponent - exponent.max(1, keepdim=True).values).exp()
    u = (data - x[:, None]) / (1 - time)
    return (w[..., None] * u).sum(1) / w.sum(1, keepdim=True)


def coupled(x, t, r):
    """Regress the velocity on the place, from the covariance of (x0, x1)."""
    joint = torch.tensor([[1.0, r], [r, 1.0]], dtype=x.dtype)
    place = torch.stack([1 - t, t], dim=1)  # x_t = place · (x0, x1)
    covariance = place @ joint @ torch.tensor([-1.0, 1.0], dtype=x.dtype)
    return covariance / torch.einsum("bi,ij,bj->b", place, joint, place) * x


# maximum_likelihood


def linear_flow(x, a):
    """The flow of Ax carries N(0, I) to N(0, e^A e^Aᵀ)."""
    factor = torch.linalg.matrix_exp(a)
    zero = torch.zeros(len(a), dtype=a.dtype)
    law = torch.distributions.MultivariateNormal(zero, covariance_matrix=factor @ factor.T)
    return law.log_prob(x)


def euler_log_prob(v, divergence, x1, steps):
    """Solve the augmented equation backward with the midpoint rule, which is more exact."""
    x, total, h = x1, torch.zeros(len(x1), dtype=x1.dtype), 1 / steps
    for k in reversed(range(steps)):
        middle = x - h / 2 * v(x, (k + 1) * h)
        x, total = x - h * v(middle, (k + 0.5) * h), total + h * divergence(middle, (k + 0.5) * h)
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1) - total


# memorisation


def counted_ends(x0, data):
    """Count the inner quantiles of N(0, 1) that lie to the left of each point."""
    inner = torch.arange(1, len(data), dtype=x0.dtype) / len(data)
    walls = torch.distributions.Normal(0.0, 1.0).icdf(inner)
    return data.sort().values[(x0[:, None] > walls).sum(1)]


def share(samples, train, held_out):
    n = min(len(train), len(held_out))
    both = torch.cat([train[:n], held_out[:n]])
    return (torch.cdist(samples, both).argmin(1) < n).double().mean()


def least_slope(n, d, r):
    ball = math.pi ** (d / 2) * r**d / math.gamma(d / 2 + 1)
    return math.log((2 * math.pi) ** (d / 2) / (n * ball)) / d


# objectives


def target_variance(x, t, a):
    w = torch.sigmoid(2 * a * t * x / (1 - t) ** 2)
    return 4 * a**2 * w * (1 - w) / (1 - t) ** 2


def gap(data, x, t):
    time = t[:, None, None]
    difference = x[:, None] - time * data  # [b n d]
    w = (-0.5 * (difference / (1 - time)).square().sum(2)).softmax(1)[..., None]
    u = (data - x[:, None]) / (1 - time)
    mean = (w * u).sum(1, keepdim=True)
    return (w * (u - mean).square()).sum((1, 2))


def weighted(u, w, c):
    """Solve the weighted least squares problem of a constant."""
    root = (w * c).sqrt()[:, None]
    return torch.linalg.lstsq(root, root * u).solution[0]


def energy(m, s0, s1):
    """Integrate E[u_t(x_t)²] over t; u_t is linear in x for Gaussians."""
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    variance = (s0 * (1 - t)) ** 2 + (s1 * t) ** 2
    covariance = s1**2 * t - s0**2 * (1 - t)
    return torch.trapezoid(m**2 + covariance**2 / variance, t)


def four_losses(u, w):
    """Minimise over a fine grid."""
    v = torch.linspace(u.min(), u.max(), 200_001, dtype=u.dtype)
    y, w = u[:, None], w[:, None]
    slope = y.exp()
    losses = [
        7 * (y - v) ** 2,
        (y - v).abs(),
        y.exp() - v.exp() - v.exp() * (y - v),
        v.exp() - slope - slope * (v - y),
    ]
    return torch.stack([v[(w * loss).sum(0).argmin()] for loss in losses])


# paths


def target(x0, x1, t):
    rate = derivative(lambda s: s**2, t)
    return as_images(rate, x1) * (x1 - x0)


def field(x, x1, t):
    t = as_images(t, x)
    return (x1 - t * x) / (1 - t**2)


def velocity_from_noise(path, noise, xt, t):
    return path.velocity_from_score(-noise / as_images(path.sigma(t), xt), xt, t)


def width(x, x1, w, t):
    """Differentiate x_t = t x1 + wᵗ x0 at the noise that leads to x."""
    w, time = as_images(w, x), as_images(t, x).expand_as(x)
    x0 = (x - time * x1) / w**time
    return derivative(lambda s: s * x1 + w**s * x0, time)


# quickstart


def euler(v, x, steps):
    for k in range(steps):
        x = x + v(x, torch.full((len(x),), k / steps)) / steps
    return x


def loss(v, x0, x1, t):
    time = as_images(t, x1)
    return (v(torch.lerp(x0, x1, time), t) - (x1 - x0)).square().mean()


# sampling


def heun_step(v, x, t, h):
    k1 = v(x, torch.full((len(x),), t, dtype=x.dtype))
    k2 = v(x + h * k1, torch.full((len(x),), t + h, dtype=x.dtype))
    return torch.lerp(x + h * k1, x + h * k2, 0.5)


def encode(v, x1, steps):
    return sample(v, x1, steps=steps, t0=1.0, t1=0.0)


def drift(v, x, t, g):
    return v + g**2 / 2 * CondOT().score_from_velocity(v, x, t)


def steps_needed(coarse, fine, n, p, tol):
    error = (coarse - fine).norm(dim=1).square().mean().sqrt() / (2**p - 1)
    return 2 * n * (error / tol) ** (1 / p)


# policies


def best_by_counting(p, r, n):
    """Go through all n-tuples of draws."""
    found = torch.zeros_like(p)
    for draws in itertools.product(range(len(p)), repeat=n):
        found[max(draws, key=lambda k: r[k])] += math.prod(p[k].item() for k in draws)
    return found


def expectile_by_bisection(a, b, p, share):
    low, high = a, b
    for _ in range(80):
        m = (low + high) / 2
        above = share * p * (b - m) > (1 - share) * (1 - p) * (m - a)
        low, high = (m, high) if above else (low, m)
    return low


def promise_by_law(success, episodes, checkpoints):
    k = torch.arange(episodes + 1.0, dtype=torch.float64)
    law = torch.distributions.Binomial(episodes, torch.tensor(success, dtype=torch.float64))
    below = law.log_prob(k).exp().cumsum(0) ** checkpoints
    return (below.diff(prepend=torch.zeros(1, dtype=torch.float64)) * k).sum() / episodes


def ratio_by_densities(step, new, old, g, h):
    new, old = (torch.distributions.Normal(h * b, g * h**0.5) for b in (new, old))
    return (new.log_prob(step) - old.log_prob(step)).sum(1)


# scale


def gradient_of_one(gradients, counts, clip):
    g = torch.einsum("p,pd->d", counts, gradients) / counts.sum()
    return g * min(1.0, clip / g.norm().item())


def modulated(x, c, W, f):
    shift, scale, gate = torch.einsum("be,ke->bk", c * c.sigmoid(), W).tensor_split(3, dim=1)
    spread = x.var(-1, keepdim=True, unbiased=False) + 1e-5
    h = (x - x.mean(-1, keepdim=True)) * spread.rsqrt()
    return x + torch.einsum("bd,bnd->bnd", gate, f(h + h * scale[:, None] + shift[:, None]))


def pictures_that_fit(weights, devices, memory, picture):
    held = sum(4 * weights / devices for _ in ("weight", "gradient", "m", "v", "average"))
    return max(0, math.floor((memory - held) / picture))


# discrete


def rates_by_hand(x, posterior, kappa, d_kappa):
    rates = posterior * (d_kappa / (1 - kappa))
    return rates.scatter(2, x[..., None], rates.gather(2, x[..., None]) - d_kappa / (1 - kappa))


def equal_by_counting(k, N):
    """Go through the steps of three tokens, each as likely."""
    right = 0.0
    for steps in itertools.product(range(N), repeat=3):
        right += k ** (1 - steps.count(min(steps)))
    return right / N**3


def posterior_by_drawing(table, x, kappa):
    """Give every pair of data the probability with which it shows what is seen."""
    k, found = len(table), torch.zeros(2, len(table), dtype=table.dtype)
    for data in itertools.product(range(k), repeat=2):
        p = table[data]
        for seen, token in zip(x.tolist(), data, strict=True):
            p = p * ((1 - kappa) / k + kappa * (seen == token))
        found[[0, 1], list(data)] += p
    return found / found.sum(1, keepdim=True)


def filled(logits, given, path, steps, seed):
    x0 = given.masked_fill(given < 0, path.tokens)  # what is no mask stays by itself
    return sample_tokens(logits, x0, path, steps=steps, seed=seed)


# training


def running_average(weights, decay):
    """Write out the weight that each step has in the end."""
    k = len(weights)
    share = (1 - decay) * decay ** torch.arange(k - 1, -1, -1, dtype=weights.dtype)
    share[0] = decay ** (k - 1)
    return share @ weights


def beta_times(u, v, a, b):
    powers = torch.stack([u ** (1 / a), v ** (1 / b)])
    total = powers.sum(0)
    return (powers[0] / total).masked_select(total <= 1)


def density(t, mean, std):
    logit = torch.log(t) - torch.log1p(-t)
    return torch.distributions.Normal(mean, std).log_prob(logit).exp() / (t * (1 - t))


def learning_rate(k, steps, lr, warmup):
    return lr * min((k + 1) / (warmup + 1), 1) * math.cos(0.5 * math.pi * k / steps) ** 2


def other_noise(x, t, m, s):
    return (m * (1 - t) ** 2 + t * s**2 * x) / ((1 - t) ** 2 + t**2 * s**2)


# diffusion


def path_of(a, c, t):
    """Solve m' = −a m and V' = −2aV + c by many small steps of Heun's method."""
    n, m, variance = 4000, torch.ones_like(t), torch.zeros_like(t)
    h = (1 - t) / n
    for _ in range(n):
        m = m * (1 - a * h + (a * h) ** 2 / 2)
        rise = c - 2 * a * variance
        variance = variance + h * (rise + c - 2 * a * (variance + h * rise)) / 2
    return torch.stack([m, variance.sqrt()])


def reverse_step(x, score, f, g, h, xi):
    """The flow's drift and half the noise's share of the score."""
    flow = g**2 / 2 * score - f * x
    return x + h * (flow + g**2 / 2 * score) + math.sqrt(g**2 * h) * xi


def converted(net, x, t):
    path = CondOT()
    angle = torch.acos(t / torch.sqrt(t**2 + (1 - t) ** 2))
    noise = net(x * (angle.cos() / t)[:, None], 1000 * angle / (math.pi / 2))
    return path.velocity_from_score(-noise / (1 - t)[:, None], x, t)


def euler_width(alpha, sigma, d_alpha, d_sigma, w):
    x = 1.0
    for a, s, da, ds in zip(alpha, sigma, d_alpha, d_sigma, strict=True):
        gain = a * w**2 / (a**2 * w**2 + s**2)  # of E[x1 | x]
        x = x + (da * gain * x + ds * (x - a * gain * x) / s) / len(alpha)
    return x / w


def meanflow_target(net, x, v, s, t):
    with torch.enable_grad():
        x, s = x.clone().requires_grad_(), s.clone().requires_grad_()
        value, slope = net(x, s, t), []
        for column in value.unbind(1):
            dx, ds = torch.autograd.grad(column.sum(), (x, s), retain_graph=True)
            slope.append((dx * v).sum(1) + ds)
    return v + (t - s).detach()[:, None] * torch.stack(slope, 1)


def one_jump_for_two(net, x, s, t):
    with torch.no_grad():
        half = ((t - s) / 2)[:, None]
        first = net(x, s, (s + t) / 2)
        target = (first + net(x + half * first, (s + t) / 2, t)) / 2
    return torch.nn.functional.mse_loss(net(x, s, t), target)


# molecules


def centred_density(x, s):
    """As the density of the differences to the last particle, which all numbers determine."""
    n, d = x.shape[1:]
    y = x[:, :-1] - x[:, -1:]
    covariance = s**2 * (torch.eye(n - 1) + 1).to(x.dtype)
    zero = torch.zeros(n - 1, dtype=x.dtype)
    law = torch.distributions.MultivariateNormal(zero, covariance)
    return law.log_prob(y.mT).sum(1) + d / 2 * math.log(n)


def best_turn(x0, x1):
    """Try every sign for the singular values, and keep the best turn."""
    u, _, vh = torch.linalg.svd(x0.mT @ x1)
    best = None
    for signs in itertools.product((1.0, -1.0), repeat=x0.shape[2]):
        r = u @ torch.diag(torch.tensor(signs, dtype=x0.dtype)) @ vh
        cost = (x0 @ r - x1).square().sum((1, 2))
        cost = torch.where(torch.linalg.det(r) > 0, cost, torch.inf)
        if best is None:
            best, least = x0 @ r, cost
        best = torch.where((cost < least)[:, None, None], x0 @ r, best)
        least = torch.minimum(cost, least)
    return best


def kish(log_w):
    share = torch.softmax(log_w, 0)
    return 1 / (len(share) * share.square().sum().item())


def pair_velocity(x):
    """As a gradient: W' = r(e^(-r) - 0.3)."""
    x = x.detach().requires_grad_()
    i, j = torch.triu_indices(x.shape[1], x.shape[1], offset=1)
    r = (x[:, i] - x[:, j]).norm(dim=2)
    energy = -(r + 1) * (-r).exp() - 0.15 * r**2
    return torch.autograd.grad(energy.sum(), x)[0]


# manifolds


def mean_direction(a):
    return torch.polar(torch.ones_like(a), a).mean().angle().item()


def conditional_velocity(x, x1, t):
    """By finite differences of the great circle that is at x at time t and at x1 at time 1."""
    angle = (x * x1).sum(1, keepdim=True).acos()
    h = 1e-5

    def at(share):
        return ((1 - share) * angle).sin() * x + (share * angle).sin() * x1

    return (at(h) - at(-h)) / (2 * h * angle.sin() * (1 - t[:, None]))


def tangent_divergence(x, w, J):
    """The derivative of the projected field along two directions of the tangent plane."""
    total, h = 0, 1e-5
    first = torch.linalg.cross(x, torch.tensor([[0.3, -0.5, 0.8]], dtype=x.dtype).expand_as(x))
    first = first / first.norm(dim=1, keepdim=True)

    def v(y):
        raw = w + torch.einsum("bij,bj->bi", J, y - x)
        return raw - (y * raw).sum(1, keepdim=True) * y / y.square().sum(1, keepdim=True)

    for e in (first, torch.linalg.cross(x, first)):
        total = total + ((v(x + h * e) - v(x - h * e)) / (2 * h) * e).sum(1)
    return total


def hyperboloid(x, u, y):
    """By the two lines of light through x, and by the sinh of half the distance."""

    def square(u):
        return (u[:, :2].square().sum(1) - u[:, 2].square())[:, None]

    length = square(u).sqrt()
    end = (length.exp() * (x + u / length) + (-length).exp() * (x - u / length)) / 2
    distance = 2 * torch.asinh(square(y - x).sqrt() / 2)
    return torch.stack([end, distance / distance.sinh() * (y - distance.cosh() * x)])


# bridges


def bridge_velocity(x, x0, x1, t):
    """Differentiate the centre and the width along the curve of fixed noise."""
    at = t[:, None]
    z = (x - (1 - at) * x0 - at * x1) / (at * (1 - at)).sqrt()

    def place(s):
        return (1 - s) * x0 + s * x1 + (s * (1 - s)).sqrt() * z

    return (place(at + 1e-6) - place(at - 1e-6)) / 2e-6


def bridge_drifts(line, score, t, sigma):
    path = BrownianBridge(sigma)
    velocity = line - path.half_d_variance(t)[:, None] * score
    return torch.stack([velocity + k * sigma**2 / 2 * score for k in (1, -1)])


def sinkhorn_round(f, g, cost, epsilon):
    """The same, one row and one column after the other, each by its largest term."""
    n, f, g = len(f), f.clone(), g.clone()
    for j in range(n):
        a = (f - cost[:, j]) / epsilon
        g[j] = -epsilon * (a.max() + (n * (a - a.max()).exp().sum()).log())
    for i in range(n):
        a = (g - cost[i]) / epsilon
        f[i] = -epsilon * (a.max() + (n * (a - a.max()).exp().sum()).log())
    return torch.stack([f, g])


def end_correlation(s0, s1, sigma):
    """Find the covariance for which the off-diagonal precision is −1/σ², by bisection."""
    low, high = 0.0, s0 * s1
    for _ in range(200):
        c = (low + high) / 2
        low, high = (c, high) if c / (s0**2 * s1**2 - c**2) < 1 / sigma**2 else (low, c)
    return c / (s0 * s1)


RIGHT = {
    "manifolds.grade_divergence": tangent_divergence,
    "manifolds.grade_hyperboloid": hyperboloid,
    "manifolds.grade_mean": mean_direction,
    "manifolds.grade_velocity": conditional_velocity,
    "molecules.grade_density": centred_density,
    "molecules.grade_size": kish,
    "molecules.grade_turn": best_turn,
    "molecules.grade_velocity": pair_velocity,
    "bridges.grade_cross": end_correlation,
    "bridges.grade_drifts": bridge_drifts,
    "bridges.grade_sinkhorn": sinkhorn_round,
    "bridges.grade_velocity": bridge_velocity,
    "analysis.grade_rate": rate,
    "analysis.grade_coarse": coarse,
    "analysis.grade_potential": potential,
    "diffusion.grade_checkpoint": converted,
    "diffusion.grade_forward": path_of,
    "diffusion.grade_reverse": reverse_step,
    "diffusion.grade_schedule": euler_width,
    "continuity.grade_crossing": lambda c, w: w - torch.distributions.Normal(0.0, 1.0).cdf(-c),
    "continuity.grade_velocity_from_cdf": velocity_from_cdf,
    "continuity.grade_residual": residual,
    "continuity.grade_second_field": second_field,
    "continuity.grade_mixture": field_of_mixture,
    "continuity.grade_clock": lambda u, tau, d_tau: (
        lambda x, s: derivative(tau, s)[:, None] * u(x, tau(s))
    ),
    "couplings.grade_partners": partners,
    "couplings.grade_labels_along": labels_along,
    "couplings.grade_bends": bends,
    "couplings.grade_flow_pairs": flow_pairs,
    "couplings.grade_below": lambda w, a: (1 - w) + w * a,
    "few_steps.grade_arrival": lambda u, ws, wt, wxu, s, t: (
        u - torch.einsum("b,bd->bd", t - s, wt + wxu)
    ),
    "few_steps.grade_cliff": lambda slope: (
        1 - 2 * torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(-1 / slope)).item()
    ),
    "few_steps.grade_detached": one_jump_for_two,
    "few_steps.grade_target": meanflow_target,
    "flows.grade_attraction": lambda x0, t: torch.lerp(
        torch.tensor([[1.0, -1.0]]).to(x0), x0, torch.exp(-2 * t)[:, None]
    ),
    "flows.grade_ends": ends,
    "flows.grade_spiral": spiral,
    "flows.grade_splitting": splitting,
    "flows.grade_reversal": lambda u, x, t: -u(x, 1 - t),
    "flows.grade_matching": lambda x, t: -x / (2 - t)[:, None] + 2 * turn(x),
    "guidance.grade_null": lambda prior, rates: (prior.log() + rates.log()).softmax(0),
    "guidance.grade_scale": lambda g, off, none: 1 + (g - off) / (off - none),
    "guidance.grade_average": average,
    "guidance.grade_interval": guided_between,
    "guidance.grade_negative": lambda s: torch.tensor([s, 1 - s]),
    "images.grade_pixels": lambda x: (127.5 * x + 127.5).round().clamp(0, 255).to(torch.uint8),
    "images.grade_patches": patches,
    "images.grade_combine": lambda g, n: torch.einsum("k,kd->d", n / n.sum(), g),
    "images.grade_frechet": frechet,
    "images.grade_floor": lambda n, d, s: d / n * s * s * (1 + (d - 1 + 2) / 4),
    "likelihood.grade_augmented": augmented,
    "likelihood.grade_bits": lambda p, levels, d: -p / (d * math.log(2)) + math.log2(levels / 2),
    "likelihood.grade_variance": probe_variance,
    "likelihood.grade_fresh": two_variances,
    "likelihood.grade_mode": excess_of_mode,
    "marginal.grade_posterior": lambda x, t, d: EmpiricalField(CondOT(), d).posterior(x, t),
    "marginal.grade_field": lambda x, t, d: EmpiricalField(CondOT(), d)(x, t),
    "marginal.grade_two_points": two_points,
    "marginal.grade_prior": field_with_prior,
    "marginal.grade_coupled": coupled,
    "maximum_likelihood.grade_least_loss": lambda s: (
        torch.distributions.Normal(0.0, s).entropy().item()
    ),
    "maximum_likelihood.grade_linear_flow": linear_flow,
    "maximum_likelihood.grade_best_scale": lambda data: data.square().mean().sqrt().log(),
    "maximum_likelihood.grade_mend": euler_log_prob,
    "maximum_likelihood.grade_work": lambda stages, steps, d: stages * steps * (1 + d),
    "memorisation.grade_ends": counted_ends,
    "memorisation.grade_share": share,
    "memorisation.grade_slope": least_slope,
    "notation.grade_convert": lambda model: lambda x, t: -model(x, 1000 - 1000 * t),
    "notation.grade_guidance": lambda c, u, w: u + (1 + w) * (c - u),
    "notation.grade_contraction": lambda time: 1.0 - time,
    "notation.grade_port": lambda v, x, sigmas: sample(v, x, times=[1 - s for s in sigmas]),
    "objectives.grade_two_points": target_variance,
    "objectives.grade_four_losses": four_losses,
    "objectives.grade_fresh": lambda x, t, d: EmpiricalField(CondOT(), d).posterior_mean(x, t),
    "objectives.grade_gap": gap,
    "objectives.grade_weighted": weighted,
    "objectives.grade_energy": energy,
    "paths.grade_target": target,
    "paths.grade_field": field,
    "paths.grade_velocity_from_noise": velocity_from_noise,
    "paths.grade_width": width,
    "paths.grade_clock": lambda path, t: (
        torch.sigmoid((path.alpha(t) / path.sigma(t)).log()),
        path.alpha(t) + path.sigma(t),
    ),
    "paths.grade_constant": lambda w, t: torch.stack([t, 1 - t + w * t]),
    "quickstart.grade_euler": euler,
    "quickstart.grade_loss": loss,
    "quickstart.grade_one_step": lambda x0, data: (0 * x0 + 1) * data.mean(0),
    "quickstart.grade_point": lambda x, t, c: CondOT().conditional_velocity(x, c.expand_as(x), t),
    "sampling.grade_heun": heun_step,
    "sampling.grade_grid": lambda n, power: 1 - (1 - torch.arange(n + 1) / n) ** power,
    "sampling.grade_encode": encode,
    "sampling.grade_drift": drift,
    "sampling.grade_left": lambda b, c: 1 - b[c < 1].sum(),
    "sampling.grade_steps": steps_needed,
    "discrete.grade_equal_share": equal_by_counting,
    "discrete.grade_fill": filled,
    "discrete.grade_posterior": posterior_by_drawing,
    "discrete.grade_rate": rates_by_hand,
    "policies.grade_best": best_by_counting,
    "policies.grade_expectile": expectile_by_bisection,
    "policies.grade_promise": promise_by_law,
    "policies.grade_ratio": ratio_by_densities,
    "policies.grade_value": lambda p, r, tau: tau * (p * (r / tau).exp()).sum().log(),
    "scale.grade_average": gradient_of_one,
    "scale.grade_block": modulated,
    "scale.grade_fit": pictures_that_fit,
    "scale.grade_latent_clock": lambda t, r, s: torch.sigmoid(torch.logit(t) - math.log(r * s)),
    "scale.grade_zero_start": lambda G, V: (G, 0 * V),
    "training.grade_average": running_average,
    "training.grade_density": density,
    "training.grade_learning_rate": learning_rate,
    "training.grade_mend": beta_times,
    "training.grade_other_noise": other_noise,
}
