"""A unit under the names of AXI4-Stream: a module around it that joins its ports, without logic or delay.

A stream's valid, ready and payload become `tvalid`, `tready` and `tdata`, which is padded to whole bytes; a field
`last` of the payload becomes `tlast`. Both protocols hold a beat until it is taken, so nothing else is needed.
"""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
CLOCKS = {"clk": ("aclk", "aclk"), "rst": ("aresetn", "~aresetn")}  # the core's port: the new one, what joins them
WORDS = (
    "All other words of this description name the ports of the core, which are joined as here. aresetn is active low "
    "and synchronous. tdata is the payload from bit 0 on, without its field last, which is tlast; bits of a slave's "
    "tdata above the payload are ignored, those of a master's repeat the sign of a signed payload and else are 0."
)


def wrapped(name: str, core: str, rows: Sequence[Row]) -> tuple[str, list[Row], dict[str, Any]]:
    """The module `name` around the module `core`.

    Parameters
    ----------
    name, core : str
        The modules' names.
    rows : sequence of dict
        The core's ports, as `rtl.emit.ports` gives them.

    Returns
    -------
    tuple of str, list and dict
        The module's Verilog; its ports, in the form of `rows`; and for the description the core and which of its ports
        each is joined to.
    """
    names = _streams(rows)
    declared: list[Row] = []
    joins, body = [], []
    for row in rows:
        if not row["width"]:
            continue
        prefix, _, part = row["name"].rpartition("__")
        if row["name"] in CLOCKS:
            new, joined = CLOCKS[row["name"]]
            declared.append({**row, "name": new})
        elif prefix not in names:
            joined = row["name"]
            declared.append(row)
        elif part == "payload":
            joined = f"{names[prefix]}_payload"
            body += [f"  wire [{row['width'] - 1}:0] {joined};", *_payload(row, names[prefix], joined)]
            declared += _data_ports(row, names[prefix])
        else:
            joined = f"{names[prefix]}_t{part}"
            declared.append({**row, "name": joined})
        joins.append((row["name"], joined))
    heads = ",\n".join(f"  {row['direction']} {_range(row)}{row['name']}" for row in declared)
    connections = ",\n".join(f"    .{inner}({joined})" for inner, joined in joins)
    text = f"""
/* The ports of {core} under the names of AXI4-Stream. */
module {name} (
{heads}
);
{chr(10).join(body)}
  {core} core (
{connections}
  );
endmodule
"""
    about = {"core": core, "words": WORDS, "streams": names, "joined": dict(joins), "core_ports": list(rows)}
    return text, declared, about


def _streams(rows: Sequence[Row]) -> dict[str, str]:
    """The new prefix of each stream: `s_axis` for `i`, `m_axis` for `o`, and `s_axis_w` for a stream `w` beside `i`."""
    direction = {row["name"]: row["direction"] for row in rows}
    names = {}
    for name, way in direction.items():
        prefix, _, part = name.rpartition("__")
        if part == "payload" and {f"{prefix}__valid", f"{prefix}__ready"} <= direction.keys():
            role = "s_axis" if way == "input" else "m_axis"
            names[prefix] = role if prefix in ("i", "o") else f"{role}_{prefix}"
    return names


def _last(row: Row) -> int | None:
    """The bit of a payload's field `last`."""
    fields = [] if "lanes" in row else row.get("fields", [])
    return next((field["offset"] for field in fields if field["name"] == "last"), None)


def _data_ports(row: Row, prefix: str) -> list[Row]:
    last = _last(row)
    width = row["width"] - (last is not None)
    data = {**row, "name": f"{prefix}_tdata", "width": -(-width // 8) * 8, "payload_width": width}
    if last is None:
        return [data]
    data["fields"] = [
        {**field, "offset": field["offset"] - (field["offset"] > last)}
        for field in row["fields"]
        if field["name"] != "last"
    ]
    return [data, {"name": f"{prefix}_tlast", "direction": row["direction"], "width": 1, "signed": False}]


def _payload(row: Row, prefix: str, payload: str) -> list[str]:
    """The assignments between a payload and its `tdata` and `tlast`."""
    width, last = row["width"], _last(row)
    data = f"{prefix}_tdata"
    if row["direction"] == "input":
        if last is None:
            return [f"  assign {payload} = {data}[{width - 1}:0];"]
        parts = [_slice(data, last, width - 1), f"{prefix}_tlast", _slice(data, 0, last)]
        return [f"  assign {payload} = {{{', '.join(filter(None, parts))}}};"]
    used = width - (last is not None)
    spare = -used % 8
    fill = "" if not spare else f"{{{spare}{{{payload}[{width - 1}]}}}}" if row["signed"] else f"{spare}'d0"
    parts = [fill, payload] if last is None else [fill, _slice(payload, last + 1, width), _slice(payload, 0, last)]
    lines = [f"  assign {data} = {{{', '.join(filter(None, parts))}}};"]
    return lines if last is None else [*lines, f"  assign {prefix}_tlast = {payload}[{last}];"]


def _slice(name: str, low: int, high: int) -> str:
    """Bits `low` up to but without `high`; nothing if there are none."""
    return f"{name}[{high - 1}:{low}]" if high > low else ""


def _range(row: Row) -> str:
    return "" if row["width"] == 1 else f"[{row['width'] - 1}:0] "
