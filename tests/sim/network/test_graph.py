"""Graphs: tensors by name, in order, freed after their last use; what is not there is refused by name."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from sim.network.convert import convert
from sim.network.graph import Graph, GraphInput, Network
from sim.network.operators.base import Step
from sim.network.operators.residual import Add, Input
from sim.reference import InputError
from tests.sim.network.models import bert, plan, token_batches


class Fresh(Step):
    """A new tensor, and how many of those made before are still there."""

    def __init__(self, made: list, alive: list[int]) -> None:
        super().__init__("fresh")
        self.made, self.alive = made, alive

    def forward(self, x: Tensor) -> Tensor:
        result = x + 1
        gc.collect()
        self.alive.append(sum(reference() is not None for reference in self.made))
        self.made.append(weakref.ref(result))
        return result


def test_tensors_are_freed_after_their_last_use():
    made, alive = [], []
    graph = Graph({"x": GraphInput(("batch", 1))})
    name = "x"
    for k in range(6):
        name = graph.add(f"step{k}", Fresh(made, alive), name)
    assert Network(graph).run({"x": torch.zeros(1, 1)}).item() == 6
    assert max(alive) == 1  # the one that is read


def test_an_operator_may_read_any_earlier_tensor_so_that_a_graph_need_not_be_a_chain():
    graph = Graph({"x": GraphInput(("batch", 2))})
    first = graph.add("down", Input("down"), "x")
    second = graph.add("middle", Input("middle"), first)
    graph.add("up", Add("up"), second, first)  # a skip connection
    network = Network(graph)
    assert network.run({"x": torch.ones(1, 2)}).tolist() == [[2.0, 2.0]]
    assert network.run({"x": torch.ones(1, 2)}, until="middle").tolist() == [[1.0, 1.0]]
    assert network.shapes()["up"] == ("batch", 2) and [node.key for node, _ in network.sites()][-1] == "up"


def test_what_no_operator_gives_and_a_key_that_is_taken_are_refused():
    graph = Graph({"x": GraphInput(("batch", 2))})
    graph.add("a", Input("a"), "x")
    with pytest.raises(InputError, match="b: no earlier operator gives 'y'"):
        graph.add("b", Input("b"), "y")
    with pytest.raises(InputError, match="a: is the key of an earlier operator"):
        graph.add("a", Input("a"), "x")


def test_arguments_that_are_missing_or_unknown_are_refused_by_name():
    network = convert(bert(), plan(), token_batches())
    with pytest.raises(InputError, match="input_ids must be given"):
        network.codes(attention_mask=torch.ones(1, 3))
    with pytest.raises(InputError, match="head_mask is not supported by the integer network"):
        network.codes(input_ids=torch.ones(1, 3, dtype=torch.long), head_mask=torch.ones(1))


def test_the_operators_are_modules_under_their_keys():
    network = convert(bert(), plan(), token_batches())
    assert isinstance(network["layers.1.up"], nn.Module)
    assert "steps.layers.1.up.layers.0.weight" in dict(network.named_parameters())
