"""What the configurations of units share that are numbers and flags alone, with nothing wired in."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class UnitConfig:
    """A configuration that its fields say in full."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> Self:
        """The configuration from `to_dict`'s object; nothing of a `load` is wired in."""
        return cls(**content)
