"""The configuration of a GPTQ checkpoint, with the settings that it gives single layers (GPTQModel's `dynamic`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quant.expressions import require_quick
from quant.formats.gptq_layout import BITS, FORMATS
from sim.common.files import read_json
from sim.reference import InputError

_HOW = (
    "desc_act",
    "damp_percent",
    "damp_auto_increment",
    "static_groups",
    "true_sequential",
    "mse",
)  # not what is stored
_LAYER = ("bits", "group_size", "sym")


@dataclass(frozen=True)
class GptqConfig:
    """What decides the meaning of a layer's tensors.

    Parameters
    ----------
    bits : int
        Width of a code.
    group_size : int, optional
        Consecutive inputs that share a scale; -1: all.
    symmetric : bool
        Every zero point is 2**(bits-1).
    version : str
        "gptq" (v1: zero points less one) or "gptq_v2".
    dynamic : tuple of pairs
        An expression that a layer's name begins with, and its own settings, None if such layers are not quantised. The
        first that fits is taken.
    """

    bits: int
    group_size: int | None
    symmetric: bool
    version: str
    dynamic: tuple[tuple[str, Mapping[str, Any] | None], ...] = ()

    @classmethod
    def read(cls, folder: str | Path) -> "GptqConfig":
        """The configuration of a folder.

        Raises
        ------
        InputError
            If there is none, or a value is out of range or unknown; names the file and key.
        """
        for name, key in (("quantize_config.json", None), ("config.json", "quantization_config")):
            path = Path(folder) / name
            if not path.exists():
                continue
            try:
                content = read_json(path)
                content = content if key is None else content[key]
            except (KeyError, TypeError):
                continue
            if isinstance(content, dict):
                try:
                    return cls._from(content)
                except InputError as error:
                    raise InputError(f"{path}: {error}") from None
        raise InputError(f"{folder}: has no quantize_config.json, nor a quantization_config in config.json")

    @classmethod
    def _from(cls, content: Mapping[str, Any]) -> "GptqConfig":
        _check_layer("", {"bits": content.get("bits"), "group_size": content.get("group_size")})
        version = content.get("checkpoint_format") or content.get("format") or "gptq"  # GPTQModel's key, and others'
        if version not in FORMATS:
            raise InputError(f"checkpoint_format must be one of {', '.join(FORMATS)}, not {version!r}")
        rules = content.get("dynamic") or {}
        if not isinstance(rules, dict):
            raise InputError(f"dynamic must be an object of expressions, not {str(rules)[:60]!r}")
        dynamic = tuple(_rule(expression, own) for expression, own in rules.items())
        return cls(content["bits"], content.get("group_size"), content.get("sym") is True, version, dynamic)

    def of(self, layer: str) -> "GptqConfig":
        """That of one layer. Raises `InputError` for one that `dynamic` says is not quantised."""
        for expression, own in self.dynamic:
            if re.match(expression, layer):
                if own is None:
                    raise InputError(
                        f"{layer}: dynamic: {expression!r} says that it is not quantised, but it has qweight"
                    )
                return replace(
                    self, bits=own.get("bits", self.bits), group_size=own.get("group_size", self.group_size),
                    symmetric=own.get("sym", self.symmetric),
                )  # fmt: skip
        return self


def _rule(key: str, own: Any) -> tuple[str, Mapping[str, Any] | None]:
    """An entry of `dynamic`: "-:EXPRESSION" skips, "+:EXPRESSION" or EXPRESSION alone gives settings."""
    expression = key.removeprefix("-:") if key.startswith("-:") else key.removeprefix("+:")
    place = f"dynamic[{key[:80]!r}]"
    try:
        re.compile(expression)
        require_quick(expression)
    except (re.error, RecursionError, OverflowError, InputError) as error:
        raise InputError(f"{place}: must be a regular expression ({error})") from None
    if key.startswith("-:"):
        return expression, None
    if not isinstance(own, dict):
        raise InputError(f"{place} must be an object, not {str(own)[:60]!r}")
    for name in own:
        if name not in (*_LAYER, *_HOW):
            raise InputError(f"{place}: unknown key {name!r}; {', '.join(_LAYER)} can be given for single layers")
    _check_layer(f"{place}.", own)
    return expression, own


def _check_layer(place: str, row: Mapping[str, Any]) -> None:
    if "bits" in row and (type(row["bits"]) is not int or row["bits"] not in BITS):
        raise InputError(f"{place}bits must be one of {', '.join(map(str, BITS))}, an integer, not {row['bits']!r}")
    size = row.get("group_size")
    if size is not None and (type(size) is not int or not (size == -1 or size > 0)):
        raise InputError(f"{place}group_size must be -1 or a positive integer, not {size!r}")
    if not isinstance(row.get("sym", False), bool):
        raise InputError(f"{place}sym must be true or false, not {row['sym']!r}")
