"""Hadamard transforms in a network: an operator before each linear layer whose inputs a plan wants transformed."""

from collections.abc import Mapping
from dataclasses import replace

from quant import Settings
from sim.network.graph import Graph, Network
from sim.network.operators.hadamard import Hadamard
from sim.network.operators.linear import Linear


def with_hadamards(network: Network, settings: Mapping[str, Settings]) -> Network:
    """A network of the same operators, with transforms where `settings` or the given codes of a layer ask for them.

    Layers that read the same tensor in the same blocks share a transform. The rotation is folded into their weights.
    Raises `InputError`, with the names, if layers of one operator differ, or a block does not divide the inputs.
    """
    blocks: dict[str, int] = {}
    for node, operator in network.sites():
        block = operator.hadamard_block(settings) if isinstance(operator, Linear) else None
        if block is not None:
            blocks[node.key] = block
    if not blocks:
        return network
    old = network.graph
    graph = Graph(old.inputs, old.limits, old.boundary, old.outside)
    made: dict[tuple[str, int], str] = {}
    for node in old.nodes:
        block = blocks.get(node.key)
        if block is not None and isinstance(node.step, Linear):
            place = (node.inputs[0], block)
            if place not in made:
                key = f"{node.key}-hadamard"
                made[place] = graph.add(key, Hadamard(key, block), node.inputs[0])
            node.step.rotate(block)
            node = replace(node, inputs=(made[place],))
        graph.append(node)
    graph.output = old.output
    return Network(graph)
