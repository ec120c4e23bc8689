"""Calibration of a network in floating point: ranges, and samples for scales that are chosen by their error."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from quant import Settings
from quant.calibration import CalibrationData
from quant.primitives.observers import token_mask
from sim.network.graph import Network, Node
from sim.network.operators.base import Operator, Site, set_mode
from sim.network.operators.observations import Observations


class Calibration:
    """A network in floating point with the observations of its operators; it can be quantised repeatedly.

    `settings` are those that it was observed for, by name.
    """

    def __init__(self, network: Network, settings: Mapping[str, Settings], data_sha256: str) -> None:
        self.network, self.settings, self.data_sha256 = network, settings, data_sha256
        self.seen = Observations()
        self.sites = connect(network, settings, self.seen)

    @torch.no_grad()
    def run(self, data: CalibrationData, progress: Callable[[], object]) -> None:
        """One pass over the data; `progress` is called after each batch."""
        set_mode(self.network, "real")

        def watch(node: Node, arguments: tuple[Any, ...], results: tuple[Any, ...]) -> None:
            if node.key in self.sites:
                operator, site = self.sites[node.key]
                operator.watch(site, arguments, results)

        for batch in data:
            self.seen.mask = token_mask(batch)
            self.network.run(batch, watch)
            progress()


def connect(network: Network, settings: Mapping[str, Settings], seen: Observations) -> dict[str, tuple[Operator, Site]]:
    """Every operator with its site, by the node's key. Steps are skipped: a site's neighbours are operators."""
    sites: dict[str, tuple[Operator, Site]] = {}
    givers: dict[str, tuple[str, int] | None] = dict.fromkeys(network.graph.inputs)  # tensor -> operator's key, output
    operators = {node.key: operator for node, operator in network.sites()}
    for node in network.graph.nodes:
        given = [givers[name] for name in node.inputs]
        operator = operators.get(node.key)
        if operator is None:
            givers |= dict.fromkeys(node.outputs, given[0])
            continue
        site = Site(node.key, settings, seen)
        site.readers = [[] for _ in node.outputs]
        for index, giver in enumerate(given):
            if giver is not None:
                source, source_site = sites[giver[0]]
                site.sources.append((source, giver[1]))
                source_site.readers[giver[1]].append((operator, index, site))
        sites[node.key] = operator, site
        givers |= {name: (node.key, k) for k, name in enumerate(node.outputs)}
    return sites
