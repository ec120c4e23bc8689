"""An integer network on disk: `quant.formats.packed` with the operators' constants, and back, bit for bit.

Codes, integer scales, lowered tables and the control's values are stored as they run; nothing is fitted or rounded
again when they are read. `details.operators` of the JSON lists the graph in the order of execution: each operator's
key, kind and name, the names, shapes and widths of its input and output tensors, and its numbers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.formats.packed import PackedModel
from quant.formats.packed_index import DESCRIPTION
from sim.network.graph import Graph, GraphInput, Network, Node
from sim.network.operators.base import Grid, Shape, ordinary_arithmetic, set_mode
from sim.network.operators.registry import OPERATORS
from sim.network.operators.storage import Contents, Reader, Writer
from sim.reference import InputError


@ordinary_arithmetic()
def save(network: Network, folder: str | Path) -> Path:
    """Write an integer network. Same network, same bytes.

    Parameters
    ----------
    network : Network
        A network from `sim.convert` or `sim.load`.
    folder : str or Path
        Where to write; it is made if it is missing, and the files of an earlier network in it are removed.

    Returns
    -------
    Path
        The description, `packed.json` in the folder; the tensors are in `.safetensors` files beside it.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    assert network.plan is not None
    network.refresh()
    contents, shapes = Contents(), network.shapes()
    rows = [_row(node, shapes, Writer(node.key, contents)) for node in network.graph.nodes]
    graph = network.graph
    model = PackedModel(
        plan=network.plan,
        weights=contents.weights,
        tables=contents.tables,
        tensors={name: tensor.clone() for name, tensor in contents.tensors.items()},  # grids are shared
        boundary=graph.boundary,
        bounds=contents.bounds,
        details={
            "network": {
                "inputs": {
                    name: {"shape": list(given.shape), "required": given.required}
                    for name, given in graph.inputs.items()
                },
                "output": graph.output,
                "limits": dict(graph.limits),
            },
            "operators": rows,
        },
        data_sha256=network.data_sha256,
    )
    return model.save(folder)


@ordinary_arithmetic()
def load(folder: str | Path) -> Network:
    """Read an integer network that `save` wrote, bit for bit.

    Parameters
    ----------
    folder : str or Path
        The folder given to `save`.

    Returns
    -------
    Network
        The network in the mode "integer". It has no floating-point weights, so no other mode.

    Raises
    ------
    InputError
        If a file is missing, altered or truncated; the line names the file and key.
    """
    model = PackedModel.load(folder)
    path = Path(folder) / DESCRIPTION
    if "network" not in model.details:
        maker = model.details.get("maker")
        hint = "; python -m sim convert makes one of it" if maker == "quant" else ""
        raise InputError(f"{path}: must be an integer network{hint}")
    try:
        network = Network(_graph(model))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: not an integer network that sim wrote ({error})") from None
    network.plan, network.data_sha256 = model.plan, model.data_sha256
    set_mode(network, "integer")
    return network.eval()


def _row(node: Node, shapes: Mapping[str, Shape], writer: Writer) -> dict[str, Any]:
    step = node.step
    row: dict[str, Any] = {"key": node.key, "name": step.name, "kind": step.kind}
    for side in ("inputs", "outputs"):
        grids: list[Grid] = list(getattr(step, side))
        names = getattr(node, side)
        bits = [grid.bits for grid in grids] + [None] * (len(names) - len(grids))
        row[side] = [
            {"tensor": name, "shape": list(shapes[name]), "bits": b} for name, b in zip(names, bits, strict=True)
        ]
        for k, grid in enumerate(grids):
            writer.tensor(f"{side}.{k}", grid.scale)
    return row | step.to_row(writer)


def _graph(model: PackedModel) -> Graph:
    shape = model.details["network"]
    inputs = {name: GraphInput(tuple(row["shape"]), row["required"]) for name, row in shape["inputs"].items()}
    graph = Graph(inputs, shape["limits"], model.boundary)
    for row in model.details["operators"]:
        reader = Reader(row["key"], model)
        if row["kind"] not in OPERATORS:
            raise InputError(f"{row['key']}: kind must be one of {', '.join(OPERATORS)}, not {row['kind']!r}")
        step = OPERATORS[row["kind"]].from_row(row, reader)
        step.finish(_grids(row, "inputs", reader), _grids(row, "outputs", reader))
        reads, gives = (tuple(port["tensor"] for port in row[side]) for side in ("inputs", "outputs"))
        graph.append(Node(row["key"], step, reads, gives))
    graph.output = shape["output"]
    return graph


def _grids(row: Mapping[str, Any], side: str, reader: Reader) -> list[Grid]:
    return [
        Grid(port["bits"], reader.tensor(f"{side}.{k}")) for k, port in enumerate(row[side]) if port["bits"] is not None
    ]
