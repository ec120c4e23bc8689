"""Configuration of one fit, validated on construction."""

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ga_search.slopes import FitFormat
from sim.common.errors import require_range
from sim.reference import InputError
from sim.reference.code_format import OPTIONAL, CodeFormat, without_defaults
from sim.reference.pwl import ENTRIES_RANGE, frac_bits_range
from sim.reference.two_powers import SLOPE_FORMS

METHODS = ("genetic", "optimal", "gqa-lut", "nn-lut", "uniform")
OBJECTIVES = ("full", "inside", "both", "weights")
OPTIMAL_BITS = 8  # the dynamic programme's limit, for input and slopes alike
OPTIMAL_INTERCEPT_BITS = 12  # the same of intercepts, which it does not search


@dataclass(frozen=True)
class FitConfig:
    """Configuration of one fit.

    Parameters
    ----------
    function : a key of `FUNCTIONS`, or `package.module:callable`
    entries : number of segments, 2..64
    method : one of `METHODS`
    domain, scales : the x for which the fit is made, and the scale exponents it serves; None: the function's own
    in_bits, in_signed, coef_bits, out_bits, out_signed : widths, 4..32 bits
    objective : the codes that count: all (`full`), those in the domain (`inside`), the mean of the two errors (`both`),
        or by `weights`
    weights : path of an .npz with the array `histogram`
    slope_frac_bits, intercept_frac_bits : fixed λ and μ, given together; None: chosen by the fit
    restarts : networks that `nn-lut` trains
    seed : of every random choice
    certificate : whether the proven optimum is computed beside the fit
    intercept_bits, slope_sign, intercept_sign, symmetry : as in `sim.reference.code_format.CodeFormat`
    slope_form : "any", or "two-powers": each slope is a sum of two powers of two (`sim.reference.two_powers`)

    Raises
    ------
    InputError
        If a field is out of its range, or fields contradict each other.
    """

    function: str
    entries: int = 8
    method: str = "genetic"
    domain: tuple[float, float] | None = None
    scales: tuple[int, ...] | None = None
    in_bits: int = 8
    in_signed: bool = True
    coef_bits: int = 8
    out_bits: int = 8
    out_signed: bool = True
    objective: str = "full"
    weights: str | None = None  # path of the histogram
    slope_frac_bits: int | None = None
    intercept_frac_bits: int | None = None
    restarts: int = 8
    seed: int = 0
    certificate: bool = True
    intercept_bits: int | None = None
    slope_sign: str = "signed"
    intercept_sign: str = "signed"
    symmetry: str = "none"
    slope_form: str = "any"

    def __post_init__(self) -> None:
        require_range("entries", self.entries, *ENTRIES_RANGE)
        numbers = self.code_format  # checks the widths
        if self.method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective must be one of {', '.join(OBJECTIVES)}, not {self.objective!r}")
        if self.slope_form not in SLOPE_FORMS:
            raise InputError(f"slope_form must be one of {', '.join(SLOPE_FORMS)}, not {self.slope_form!r}")
        if (self.objective == "weights") != (self.weights is not None):
            raise InputError("--weights FILE.npz and --objective weights must be given together")
        if self.scales is not None:
            if not self.scales:
                raise InputError("scales must be a range, low first, not empty")
            for scale in self.scales:
                require_range("scales", scale, 0, self.in_bits - 1)
        require_range("seed", self.seed, 0, 2**63 - 1)
        require_range("restarts", self.restarts, 1, 1024)
        if (self.slope_frac_bits is None) != (self.intercept_frac_bits is None):
            raise InputError("slope_frac_bits and intercept_frac_bits must be given together")
        if self.slope_frac_bits is not None and self.intercept_frac_bits is not None:
            for name, bits in (("slope_frac_bits", self.coef_bits), ("intercept_frac_bits", numbers.intercept_width)):
                require_range(name, getattr(self, name), *frac_bits_range(self.in_bits, bits))
            if self.intercept_frac_bits > self.slope_frac_bits:
                raise InputError(
                    f"intercept_frac_bits must be at most slope_frac_bits ({self.slope_frac_bits}), "
                    f"not {self.intercept_frac_bits}"
                )
        self._check_method(numbers)

    def _check_method(self, numbers: CodeFormat) -> None:
        """Raise `InputError` if the method does not take the widths, signs or symmetry."""
        own = [name for name in numbers.to_dict() if name in OPTIONAL]
        own += ["slope_form"] if self.slope_form != "any" else []
        if own and self.method in ("gqa-lut", "nn-lut"):
            raise InputError(f"{own[0]} needs method genetic, optimal or uniform, not {self.method}")
        if numbers.folded and self.method == "uniform":
            raise InputError("symmetry needs method genetic or optimal, not uniform")
        if self.method == "optimal" and max(self.in_bits, self.coef_bits) <= OPTIMAL_BITS:
            require_range("intercept_bits of method optimal", numbers.intercept_width, 2, OPTIMAL_INTERCEPT_BITS)
        if self.method == "optimal" and not self.can_certify:
            raise InputError(
                f"method optimal needs in_bits and coef_bits of at most {OPTIMAL_BITS}, "
                f"not {self.in_bits} and {self.coef_bits}"
            )

    @property
    def code_format(self) -> CodeFormat:
        """The widths and signs of the codes and coefficients."""
        return CodeFormat.from_dict({field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def fit_format(self) -> FitFormat:
        """The same, with the form of the slopes: what a search keeps to."""
        return FitFormat(**self.code_format.to_dict(), slope_form=self.slope_form)

    @property
    def can_certify(self) -> bool:
        """Whether the dynamic programme is affordable at these widths."""
        narrow = self.code_format.intercept_width <= max(OPTIMAL_INTERCEPT_BITS, self.coef_bits)
        return max(self.in_bits, self.coef_bits) <= OPTIMAL_BITS and narrow

    @property
    def pair(self) -> tuple[int, int] | None:
        """The fixed (λ, μ), or None if the fit chooses them."""
        if self.slope_frac_bits is None or self.intercept_frac_bits is None:
            return None
        return self.slope_frac_bits, self.intercept_frac_bits

    @property
    def name(self) -> str:
        """The stem of the fit's files: function, entries, method, and whatever makes another table of the same fit."""
        parts = [self.function.replace(":", "-")]
        if self.domain is not None:
            parts[0] += f"-{_number(self.domain[0])}to{_number(self.domain[1])}"
        parts += [str(self.entries), self.method]
        widths = {self.in_bits, self.coef_bits, self.out_bits}
        if len(widths) > 1:
            parts.append(f"{self.in_bits}x{self.coef_bits}x{self.out_bits}bit")
        elif widths != {8}:
            parts.append(f"{self.in_bits}bit")
        parts += ["unsigned"] * (not self.in_signed) + ["positive"] * (not self.out_signed)
        if self.scales is not None:
            parts.append(f"s{self.scales[0]}to{self.scales[-1]}")
        if self.intercept_bits is not None:
            parts.append(f"{self.intercept_bits}bit-intercepts")
        for sign, what in ((self.slope_sign, "slopes"), (self.intercept_sign, "intercepts")):
            parts += [f"{sign}-{what}"] * (sign != "signed")
        parts += [self.symmetry] * (self.symmetry != "none")
        parts += [f"{self.slope_form}-slopes"] * (self.slope_form != "any")
        if self.pair is not None:
            parts.append(f"l{self.pair[0]}m{self.pair[1]}")
        if self.objective != "full":
            parts.append(self.objective)
        return "-".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; with `weights` goes the SHA-256 of the file, so that other data is another plan."""
        content = without_defaults({k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()})
        if self.slope_form == "any":
            del content["slope_form"]
        if self.weights is not None:
            content["weights_sha256"] = hashlib.sha256(Path(self.weights).read_bytes()).hexdigest()
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "FitConfig":
        """The inverse of `to_dict`."""
        names = {f.name for f in fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k in names}
        return cls(**values)


def _number(value: float) -> str:
    """The shortest text that reads back as `value`."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
