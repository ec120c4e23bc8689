"""The head of a language model in integers: logits as 16-bit codes, if a plan has a rule for the head alone."""

from torch import nn

from quant import Plan
from sim.network.graph import Graph, Network
from sim.network.operators.linear import Linear

HEAD = "lm_head"


def with_head(network: Network, model: nn.Module, plan: Plan) -> Network:
    """The network with the head of `model` behind it, or the network itself if no rule of the plan is for the head.

    A rule is for the head if it matches `lm_head` and nothing in the network: a rule for everything leaves the head in
    floating point.
    """
    head = getattr(model, HEAD, None)
    names = [name for operator in network.operators() for name in operator.plan_names]
    asked = any(rule.matches(HEAD) and not any(map(rule.matches, names)) for rule in plan.rules)
    if head is None or not asked:
        return network
    old = network.graph
    boundary = {**old.boundary, "head": "logits as 16-bit codes"}
    graph = Graph(old.inputs, old.limits, boundary, old.outside)
    for node in old.nodes:
        graph.append(node)
    graph.add(HEAD, Linear({HEAD: head}), old.output)
    return Network(graph)
