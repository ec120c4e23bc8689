"""The plan: which module is quantised how. One schema for every quantiser, converter and search.

A plan is an ordered list of rules. A rule names modules by a regular expression, which must match the whole name, and
gives some of the settings; later rules refine earlier ones, setting by setting. A rule with a group size alone means
granularity "group", one with row groups alone "rows", and one with a granularity forgets earlier groups. A module that
no rule matches stays as it is; a rule that matches no module is an error.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from quant.expressions import require_quick
from sim.common.errors import require_range
from sim.common.files import read_text, write_whole
from sim.reference import InputError, PwlTable
from sim.reference.hadamard import require_block
from sim.reference.softmax import require_probability_bits

FORMAT, VERSION = "bitwright-plan", 1
EXACT = "exact"
WEIGHT_GRANULARITIES = ("tensor", "rows", "channel", "group")
GROUPS = {"rows": "row_groups", "group": "group_size"}  # a granularity and the setting that it needs
ACTIVATION_GRANULARITIES = ("tensor", "token")
WEIGHT_OBSERVERS = ("minmax", "mse")
ACTIVATION_OBSERVERS = ("minmax", "percentile", "mse")


@dataclass(frozen=True)
class Settings:
    """How one module is quantised.

    Parameters
    ----------
    weight_bits : int
        Width of a weight's code, 2..8.
    weight_granularity : str
        What shares a scale: "tensor", "rows" (a block of whole rows), "channel" (an output) or "group".
    group_size : int, optional
        Consecutive inputs of an output channel that share a multiplier; for granularity "group" alone.
    row_groups : int, optional
        Into how many blocks of whole rows the outputs are divided, as ZeroQuant's code does (48 on 768 outputs are 16
        rows each); for granularity "rows" alone.
    weight_symmetric : bool
        Signed codes without a zero point; else unsigned ones with a zero point in 0..2**bits-1.
    weight_observer : str
        "mse": the scale of least squared error; "minmax": no weight saturates.
    multiplier_bits : int
        Width of a group's unsigned multiplier, 1..16.
    activation_bits : int, optional
        Width of an input's code, 2..16; None leaves the inputs floating point.
    activation_granularity : str
        "tensor": one static scale, from calibration; "token": a scale for each token, found when it is seen.
    activation_symmetric : bool
        Signed codes without a zero point.
    activation_observer : str
        "minmax", "percentile" or "mse"; for static scales.
    percentile : float
        Share of the magnitudes, in percent, that the percentile observer keeps inside, 50..100.
    hadamard : bool or int
        Transform the inputs by a Hadamard matrix before they become codes, and the weights with them: in blocks of so
        many inputs, a power of two in 2..4096 that divides them; true takes the largest. Needs activation_bits.
    tables : mapping
        A function ("gelu", "exp", ...) to its `PwlTable`, or to "exact": the same codes with the correctly rounded
        function.
    probability_bits : int, optional
        Width of the probabilities of a softmax in an integer network, 8 or 16; None chooses it by the longest row.
    skip : bool
        Leave the module as it is.

    Raises
    ------
    InputError
        If a value is of a wrong type or out of range, or settings contradict each other.
    """

    weight_bits: int = 8
    weight_granularity: str = "channel"
    group_size: int | None = None
    row_groups: int | None = None
    weight_symmetric: bool = True
    weight_observer: str = "mse"
    multiplier_bits: int = 8
    activation_bits: int | None = 8
    activation_granularity: str = "tensor"
    activation_symmetric: bool = True
    activation_observer: str = "minmax"
    percentile: float = 99.99
    hadamard: bool | int = False
    tables: Mapping[str, PwlTable | str] = field(default_factory=dict)
    probability_bits: int | None = None
    skip: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _checked(item.name, getattr(self, item.name)))
        for granularity, name in GROUPS.items():
            given = getattr(self, name) is not None
            if self.weight_granularity == granularity and not given:
                raise InputError(f'weight_granularity "{granularity}" needs {name}')
            if self.weight_granularity != granularity and given:
                raise InputError(f'{name} needs weight_granularity "{granularity}", not "{self.weight_granularity}"')
        if self.hadamard and self.activation_bits is None:
            raise InputError("hadamard needs activation_bits: it is the codes that it makes smaller")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, tables in full."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}


@dataclass(frozen=True, init=False)
class Rule:
    """`Rule("encoder.*", weight_bits=4)`: settings for the modules whose whole name the expression matches.

    Parameters
    ----------
    modules : str
        A regular expression.
    **settings
        Fields of `Settings`.

    Raises
    ------
    InputError
        If the expression is invalid or could take exponential time, or a setting is unknown or out of range.
    """

    modules: str
    settings: Mapping[str, Any]

    def __init__(self, modules: str, **settings: Any) -> None:
        if not isinstance(modules, str):
            raise InputError(f"modules must be a regular expression, not {modules!r}")
        try:
            re.compile(modules)
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(f"modules must be a regular expression, not {modules!r} ({error})") from None
        require_quick(modules)
        names = [item.name for item in fields(Settings)]
        for name in settings:
            if name not in names:
                raise InputError(f"unknown key {name!r}; a rule has modules, {', '.join(names)}")
        object.__setattr__(self, "modules", modules)
        object.__setattr__(
            self, "settings", {name: _checked(name, settings[name]) for name in names if name in settings}
        )

    def matches(self, module: str) -> bool:
        """Whether the expression matches the whole name."""
        return re.fullmatch(self.modules, module) is not None


@dataclass(frozen=True)
class Plan:
    """Ordered rules, checked on construction; immutable, with a hash.

    `Plan.load` reads a `bitwright-plan` file, in which a table is the path of its file, relative to the plan, or the
    table itself; `save` writes tables in full, so that a plan is complete.

    Parameters
    ----------
    rules : tuple of Rule
        Later rules refine earlier ones.
    source : str, optional
        The file that the plan was read from, for errors.

    Raises
    ------
    InputError
        If there is no rule.
    """

    rules: tuple[Rule, ...]
    source: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        if not self.rules:
            raise InputError("rules must hold at least one rule")

    @classmethod
    def uniform(cls, skip: str | None = None, **settings: Any) -> "Plan":
        """The same settings for every module but those whose name `skip` matches."""
        rules = [Rule(".*", **settings)]
        return cls((*rules, Rule(skip, skip=True)) if skip is not None else tuple(rules))

    def resolve(self, modules: Iterable[str]) -> dict[str, Settings]:
        """Each module's settings, in the order given; `skip` is set for one that no rule matches.

        Raises:
            InputError: a rule that matches none of the names, or settings that contradict each other.
        """
        names = list(modules)
        for i, rule in enumerate(self.rules):
            if not any(map(rule.matches, names)):
                known = f"of {len(names)}, the first {names[0]!r}" if names else "since there is none to quantise"
                place = "" if self.source is None else f"{self.source}: "
                raise InputError(f"{place}rules[{i}]: {rule.modules!r} matches no module {known}")
        return {name: self._settings(name) for name in names}

    def _settings(self, name: str) -> Settings:
        merged: dict[str, Any] = {}
        matching = [rule for rule in self.rules if rule.matches(name)]
        for rule in matching:
            implied = [kind for kind, name in GROUPS.items() if rule.settings.get(name) is not None]
            if "weight_granularity" in rule.settings or implied:
                for key in GROUPS.values():
                    merged.pop(key, None)  # it was that of another granularity
                merged |= {"weight_granularity": implied[0]} if implied else {}
            tables = {**merged.get("tables", {}), **rule.settings.get("tables", {})}
            merged |= {**rule.settings, "tables": tables}
        try:
            return Settings(**merged) if matching else replace(Settings(), skip=True)
        except InputError as error:
            place = "" if self.source is None else f"{self.source}: "
            raise InputError(f"{place}{name}: {error}") from None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON (sorted keys, no white space), each table by its own hash."""
        content = json.loads(json.dumps(self.to_dict()))
        for i, rule in enumerate(self.rules):
            for site, table in rule.settings.get("tables", {}).items():
                content["rules"][i]["tables"][site] = table if isinstance(table, str) else table.digest
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, tables in full."""
        rules = [{"modules": r.modules} | {k: _plain(v) for k, v in r.settings.items()} for r in self.rules]
        return {"format": FORMAT, "version": VERSION, "rules": rules}

    def to_json(self) -> str:
        """The plan file's text; the same plan gives the same bytes."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the plan file, whole or not at all."""
        return write_whole(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read a plan file; `InputError` names the file and key at fault."""
        return replace(cls.from_json(read_text(path), str(path), Path(path).parent), source=str(path))

    @classmethod
    def from_json(cls, text: str, source: str = "plan", folder: Path | None = None) -> "Plan":
        """Read a plan; paths of tables are relative to `folder`, and refused without one."""
        try:
            content = json.loads(text, object_pairs_hook=_no_duplicates)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}: not valid JSON ({error})") from None
        try:
            return cls.from_dict(content, folder)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None

    @classmethod
    def from_dict(cls, content: object, folder: Path | None = None) -> "Plan":
        """A plan from a parsed file; every fault raises `InputError` with its key."""
        if not isinstance(content, dict):
            raise InputError(f"must be a JSON object, not {type(content).__name__}")
        if content.get("format") != FORMAT:
            raise InputError(f'format must be "{FORMAT}", not {content.get("format")!r}')
        if type(content.get("version")) is not int or content["version"] != VERSION:
            raise InputError(f"version must be {VERSION}, not {content.get('version')!r}")
        for key in content:
            if key not in ("format", "version", "rules"):
                raise InputError(f"unknown key {key!r}")
        if not isinstance(content.get("rules"), list):
            raise InputError("rules must be a list of objects")
        return cls(tuple(_rule(i, row, folder) for i, row in enumerate(content["rules"])))


def _rule(i: int, row: Any, folder: Path | None) -> Rule:
    if not isinstance(row, dict):
        raise InputError(f"rules[{i}] must be an object, not {type(row).__name__}")
    if "modules" not in row:
        raise InputError(f"rules[{i}]: missing key 'modules'")
    try:
        tables = row.get("tables")
        if isinstance(tables, dict):
            row = {**row, "tables": {site: _read_table(site, table, folder) for site, table in tables.items()}}
        return Rule(**row)
    except InputError as error:
        raise InputError(f"rules[{i}]: {error}") from None


def _read_table(site: str, table: object, folder: Path | None) -> object:
    if isinstance(table, dict):
        return PwlTable.from_dict(table, f"tables[{site!r}]")
    if isinstance(table, str) and table != EXACT:
        if folder is None:
            raise InputError(f"tables[{site!r}] must be a table or {EXACT!r} here, not the path {table!r}")
        return PwlTable.load(folder / table)
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {site: table if isinstance(table, str) else table.to_dict() for site, table in value.items()}
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"key {key!r} is given twice")
    return dict(pairs)


_INTEGERS = {
    "weight_bits": (2, 8),
    "group_size": (1, 1 << 20),
    "row_groups": (1, 1 << 20),
    "multiplier_bits": (1, 16),
    "activation_bits": (2, 16),
}
_NONE_ALLOWED = ("group_size", "row_groups", "activation_bits")
_CHOICES = {
    "weight_granularity": WEIGHT_GRANULARITIES,
    "activation_granularity": ACTIVATION_GRANULARITIES,
    "weight_observer": WEIGHT_OBSERVERS,
    "activation_observer": ACTIVATION_OBSERVERS,
}


def _checked(name: str, value: Any) -> Any:
    """`value` as the setting `name` holds it. Raises `InputError` if it is of a wrong type or out of range."""
    if name in _INTEGERS:
        if value is None and name in _NONE_ALLOWED:
            return None
        if type(value) is not int:
            null = " or null" if name in _NONE_ALLOWED else ""
            raise InputError(f"{name} must be an integer{null}, not {value!r}")
        require_range(name, value, *_INTEGERS[name])
        return value
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise InputError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}")
        return value
    if name == "probability_bits":
        if value is not None:
            require_probability_bits(value)
        return value
    if name == "hadamard" and type(value) is not bool:
        if type(value) is not int:
            raise InputError(f"hadamard must be true, false or the size of a block, not {value!r}")
        require_block(value)
        return value
    if name == "percentile":
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 50 <= value <= 100:
            raise InputError(f"percentile must be a number in 50..100, not {value!r}")
        return float(value)
    if name == "tables":
        if not isinstance(value, Mapping):
            raise InputError(f"tables must be an object of sites, not {value!r}")
        for site, table in value.items():
            if not (isinstance(table, PwlTable) or table == EXACT):
                raise InputError(f"tables[{site!r}] must be a table or {EXACT!r}, not {table!r}")
        return dict(value)
    if type(value) is not bool:
        raise InputError(f"{name} must be true or false, not {value!r}")
    return value
