"""Random tables and legal input sequences of a unit, for mutants and tests."""

from collections.abc import Generator
from typing import Any

import numpy as np

from rtl.pwl import PwlConfig
from sim.reference import LoweredTable

CODES = 256  # at most so many for each table
# how often the unit's input and output stall, table by table, as in `sim.cosim.cocotb_tests.protocol`
STALLS = ((0.5, 0.5), (0.8, 0.0), (0.0, 0.8))
# table by table; 7 and 3 have no common factor
RESULTS = ("inside", "around", "edges", "fine", "inside", "edges", "around")


def cycles(rng: np.random.Generator, config: PwlConfig, tables: int) -> Generator[dict[str, Any], bool, None]:
    """The inputs of each cycle; `lowered` is the table that is loaded from then on.

    The caller sends whether the offered code was taken; it is offered until then.
    """
    names = ("table__en", "table__select", "table__address", "table__data")
    idle = dict.fromkeys([*names, *config.shift_ports, "i__valid", "i__payload", "o__ready", "rst"], 0)
    yield idle | {"rst": 1}
    for k in range(tables):
        lowered = random_lowered(rng, config, results=RESULTS[k % len(RESULTS)])
        for word in rng.permutation([*config.words(lowered), _nowhere(rng, config)]).tolist():
            yield idle | dict(zip(names, (1, *word), strict=True))
            noise = {name: int(rng.integers(0, 1 << 16)) for name in names[1:]}
            yield idle | noise  # without its enable nothing is written
        shifts = {name: getattr(lowered, name) for name in config.shift_ports}
        codes = rng.choice(1 << config.in_bits, min(1 << config.in_bits, CODES), replace=False)
        busy = [1 - stalled for stalled in STALLS[k % len(STALLS)]]
        for code in codes.tolist():
            while rng.random() > busy[0]:
                yield idle | shifts | {"o__ready": int(rng.random() < busy[1]), "lowered": lowered}
            taken = False
            while not taken:
                beat = dict(i__valid=1, i__payload=code, o__ready=int(rng.random() < busy[1]), lowered=lowered)
                taken = yield idle | shifts | beat | {"rst": int(rng.random() < 0.01)}
        for _ in range(2 * config.stages):
            yield idle | shifts | {"o__ready": 1}


def _nowhere(rng: np.random.Generator, config: PwlConfig) -> tuple[int, int, int]:
    """A write (select, address, data) to an address or a selection that does not exist."""
    n = config.entries
    counts = (n - 1, n, n, 0)
    free = [(s, a) for s, count in enumerate(counts) for a in range(count, 1 << (n - 1).bit_length())]
    return (*free[rng.integers(len(free))], int(rng.integers(1 << config.data_bits)))


def random_lowered(
    rng: np.random.Generator, config: PwlConfig, entries: int | None = None, results: str = "anywhere"
) -> LoweredTable:
    """A random lowered table that fits `config`.

    Thresholds are spread or crowded, often equal or at the ends of the codes; coefficients have the whole range and
    often its ends. `results` chooses the output shift: "inside" brings most results inside the codes, "around" brings
    many just outside, "fine" has small coefficients and shifts, "edges" has sums beside powers of two that are outside,
    "anywhere" is random.
    """
    entries = entries or config.entries
    low, high = config.code_format.threshold_range
    centre = int(rng.integers(low, high, endpoint=True))
    spread = int(rng.integers(1, high - low + 1, endpoint=True))
    raw = rng.integers(centre - spread, centre + spread + 1, entries - 1)
    extremes = rng.random((2, entries)) < 0.1
    ends = config.code_format.slope_range, config.code_format.intercept_range
    at_end = np.take_along_axis(np.array(ends), rng.integers(0, 2, (2, entries)), 1)
    inner = np.array([rng.integers(*pair, entries, endpoint=True) for pair in ends])
    slopes, intercepts = np.where(extremes, at_end, inner)
    intercept_shift = int(rng.integers(*config.ends("intercept_shift"), endpoint=True))
    smallest, largest = config.ends("output_shift")
    if results == "fine":
        first = config.ends("intercept_shift")
        intercept_shift = int(np.clip(rng.integers(0, 2), *first))
        output_shift = int(np.clip(rng.integers(0, 2), smallest, largest))
        slopes, intercepts = (np.clip(rng.integers(-3, 4, entries), *pair) for pair in ends)
    elif results == "edges":
        output_shift, pairs = _beside_powers(rng, config, np.sort(np.clip(raw, low, high)), intercept_shift)
        slopes, intercepts = pairs.T
    elif results == "anywhere":
        output_shift = int(rng.integers(smallest, largest, endpoint=True))
    else:
        fitting = max(config.in_bits, intercept_shift) + config.coef_bits - config.out_bits
        fitting -= int(rng.integers(0, 3)) + (4 if results == "around" else 0)
        output_shift = min(max(fitting, smallest), largest)
    if config.slope_form != "any":
        admitted = np.array(list(config.slope_powers))
        slopes = admitted[np.abs(admitted - slopes[:, None]).argmin(axis=1)]
    shifts = {"intercept_shift": intercept_shift, "output_shift": output_shift}
    shifts = {name: value if getattr(config, name) is None else getattr(config, name) for name, value in shifts.items()}
    return LoweredTable(
        thresholds=tuple(int(t) for t in np.sort(np.clip(raw, low, high))),
        slopes=tuple(slopes.tolist()),
        intercepts=tuple(intercepts.tolist()),
        intercept_shift=shifts["intercept_shift"],
        output_shift=shifts["output_shift"] if config.output == "code" else None,
        s=0,
        **config.code_format.to_dict(),
    )


def _beside_powers(
    rng: np.random.Generator, config: PwlConfig, thresholds: np.ndarray, intercept_shift: int
) -> tuple[int, np.ndarray]:
    """(output shift, slope and intercept of each entry): for one code of each entry the sum is about +-2**k, where k is
    the table's and 2**k, shifted, is outside the codes.
    """
    ends, shifts = (config.code_format.slope_range, config.code_format.intercept_range), config.ends("output_shift")
    codes = config.code_format.threshold_range
    widest = max(map(abs, ends[0])) * max(map(abs, codes)) + (max(map(abs, ends[1])) << intercept_shift)
    least = config.out_bits - 1 if config.output == "code" else 0
    power = int(rng.integers(least, max(widest.bit_length(), least + 1)))
    output_shift = int(np.clip(rng.integers(0, power - least + 1), *shifts))
    first, last = np.append(codes[0], thresholds), np.append(thresholds - 1, codes[1])
    pairs = []
    for code in rng.integers(first, np.maximum(first, last), endpoint=True).tolist():
        wanted = int(rng.choice((-1, 1))) * (1 << power) + int(rng.integers(-3, 4))
        intercept = int(rng.integers(*ends[1], endpoint=True))
        slope = int(np.clip(round((wanted - (intercept << intercept_shift)) / (code or 1)), *ends[0]))
        intercept = int(np.clip(wanted - slope * code >> intercept_shift, *ends[1]))
        pairs.append((slope, intercept))
    return output_shift, np.array(pairs)
