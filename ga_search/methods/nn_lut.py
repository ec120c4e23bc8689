"""NN-LUT (2112.02191): a one-hidden-layer ReLU network is a piecewise-linear function; train it, then convert it.

Adam on the mean squared error over a grid of the domain, all restarts at once as a batch; the best restart is
converted. PyTorch is imported here and nowhere else in this package.
"""

import importlib.util

import numpy as np

from ga_search.functions import Function
from ga_search.progress import Report, silent
from ga_search.real_table import RealTable
from sim.reference import InputError

STEPS, LEARNING_RATE, POINTS = 2000, 0.02, 512


def require_torch() -> None:
    """Raise `InputError` if PyTorch is missing."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("method nn-lut needs PyTorch, please install it: pip install 'bitwright[nn]'")


def nn_lut(
    function: Function, entries: int, seed: int, restarts: int, steps: int = STEPS, report: Report = silent
) -> RealTable:
    """The best of `restarts` networks with N - 1 hidden units; same seed, same thread count, same result."""
    require_torch()
    import torch

    low, high = function.domain
    grid = np.linspace(low, high, POINTS, endpoint=not function.half_open)
    x = torch.from_numpy(grid)
    y = torch.from_numpy(function.evaluate(grid))
    rng = np.random.default_rng(seed)
    hidden = entries - 1

    def parameter(values: np.ndarray) -> "torch.Tensor":
        return torch.from_numpy(np.ascontiguousarray(values)).requires_grad_()

    # every restart draws its own stream, so that the first of many is the only one of one
    draws = [rng.spawn(1)[0] for _ in range(restarts)]
    knots = np.array([d.uniform(low, high, hidden) for d in draws])
    gain = np.array([d.choice([-1.0, 1.0], hidden) * d.uniform(0.5, 1.5, hidden) for d in draws])
    gains, biases = parameter(gain), parameter(-gain * knots)
    # the output layer starts at its least squares, which makes for a stronger baseline than a random start
    active = np.maximum(gain[:, None, :] * grid[None, :, None] - (gain * knots)[:, None, :], 0.0)
    design = np.concatenate([active, np.ones((restarts, POINTS, 1))], axis=2)
    start = np.array([np.linalg.lstsq(d, y.numpy(), rcond=1e-6)[0] for d in design])
    outputs, offset = parameter(start[:, :-1]), parameter(start[:, -1:])
    optimiser = torch.optim.Adam([gains, biases, outputs, offset], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)

    def errors() -> "torch.Tensor":
        active = torch.relu(gains[:, :, None] * x + biases[:, :, None])
        return (((outputs[:, :, None] * active).sum(1) + offset - y) ** 2).mean(1)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small: more threads only wait for each other
    for step in range(steps):
        report(f"training step {step + 1} of {steps}")
        optimiser.zero_grad()
        errors().sum().backward()
        optimiser.step()
        schedule.step()
    torch.set_num_threads(threads)
    with torch.no_grad():
        best = int(errors().argmin())
    n, b, m = (t[best].detach().numpy() for t in (gains, biases, outputs))
    return _convert(n, b, m, float(offset[best].detach()))


def _convert(gains: np.ndarray, biases: np.ndarray, outputs: np.ndarray, offset: float) -> RealTable:
    """The network as a table: unit i bends at -b/n and is active right of it for n > 0, left of it for n < 0."""
    safe = np.where(gains == 0.0, 1e-12, gains)
    order = np.argsort(-biases / safe, kind="stable")
    gains, biases, outputs, points = safe[order], biases[order], outputs[order], (-biases / safe)[order]
    segment = np.arange(len(points) + 1)[:, None]
    active = np.where(gains > 0, segment > np.arange(len(points)), segment <= np.arange(len(points)))
    return RealTable(points, (active * outputs * gains).sum(1), (active * outputs * biases).sum(1) + offset)
