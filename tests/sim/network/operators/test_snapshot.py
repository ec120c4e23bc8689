"""A snapshot notices every write to a parameter, whoever writes, and reads memory only where it must."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant import Settings
from quant.primitives.quantisers import quantise_weight
from sim.network.operators import snapshot
from sim.network.operators.base import Grid
from sim.network.operators.folded import Folded
from sim.network.operators.linear import Linear
from sim.network.operators.packed_linear import input_quantiser
from sim.network.operators.snapshot import Snapshot, parameters_of


def by_data(p: nn.Parameter) -> None:
    p.data.mul_(2)


def by_an_element(p: nn.Parameter) -> None:
    p.data[0, 0] = 9


def by_numpy(p: nn.Parameter) -> None:
    p.detach().numpy()[0, 0] = 9


def by_dlpack(p: nn.Parameter) -> None:
    torch.from_dlpack(p.detach()).mul_(2)


def by_storage(p: nn.Parameter) -> None:
    p.untyped_storage()[0] = 1


def by_other_data(p: nn.Parameter) -> None:
    p.data = torch.ones(3, 3)


def by_another_order(p: nn.Parameter) -> None:
    p.data = p.data.t()


def by_an_optimiser(p: nn.Parameter) -> None:
    p.grad = torch.ones(3, 3)
    torch.optim.AdamW([p]).step()


CHANGES = [
    by_data, by_an_element, by_numpy, by_dlpack, by_storage, by_other_data, by_another_order, by_an_optimiser
]  # fmt: skip


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.arange(9.0).reshape(3, 3))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mapped", [False, True])
def test_every_change_is_found(change, mapped):
    p = nn.Parameter(torch.from_numpy(np.arange(9, dtype=np.float32).reshape(3, 3))) if mapped else parameter()
    taken = Snapshot([p])
    assert taken.holds([p])
    change(p)
    assert not taken.holds([p])


def test_a_write_through_an_array_that_is_older_than_the_snapshot_is_found():
    p = parameter()
    array, view = p.detach().numpy(), p.data.view(-1)
    taken = Snapshot([p])
    assert taken.holds([p])
    array[1, 1] = -1
    assert not taken.holds([p])
    taken = Snapshot([p])
    view[0] = -1
    assert not taken.holds([p])
    source = np.zeros((2, 2), dtype=np.float32)
    p = nn.Parameter(torch.from_numpy(source))
    taken = Snapshot([p])
    source[0, 0] = 1
    assert not taken.holds([p])


def test_what_is_not_written_is_not_read(monkeypatch):
    compared: list[Tensor] = []
    honest = torch.equal
    monkeypatch.setattr(snapshot.torch, "equal", lambda a, b: compared.append(a) or honest(a, b))
    layer = nn.Linear(3, 3)
    parameters = list(parameters_of(layer))
    taken = Snapshot(parameters)
    layer(torch.ones(2, 3)).sum().backward()
    assert taken.holds(parameters) and not compared
    layer.weight.detach().numpy()  # may write
    assert taken.holds(parameters) and len(compared) == 1
    assert taken.holds(parameters) and len(compared) == 1


def test_the_parameter_stays_the_users_and_a_copy_is_independent():
    p = parameter()
    taken = Snapshot([p])
    other = copy.deepcopy([p])
    p.data.add_(1)
    assert taken.holds(other) and not taken.holds([p]) and not taken.holds([])
    assert torch.equal(p.detach(), torch.arange(9.0).reshape(3, 3) + 1)


def test_parameters_are_those_of_the_module():
    model = nn.Sequential(nn.Linear(2, 3), nn.ModuleList([nn.LayerNorm(3), nn.Linear(3, 1, bias=False)]))
    assert list(map(id, parameters_of(model))) == list(map(id, model.parameters()))


@pytest.mark.parametrize("name", ["running_mean", "running_var", "weight", "bias"])
def test_a_statistic_or_parameter_of_a_batch_norm_that_is_written_changes_the_codes(name):
    after = nn.BatchNorm2d(3)
    operator = Linear({"c": Folded(nn.Conv2d(2, 3, 1, bias=False), ("bn", after))})
    grid = Grid(8, torch.tensor(2.0**-6, dtype=torch.float64))
    weights = [quantise_weight(operator._real[0].weight, Settings(weight_bits=8))]
    operator.quantise(input_quantiser(grid, False, 8, None), grid, [Grid.power(16, 10)], weights)
    operator.mode = "integer"
    x = torch.arange(-6, 6, dtype=torch.int8).reshape(6, 2)
    before = operator(x)
    with torch.no_grad():
        getattr(after, name).add_(0.5)
    operator.refresh()
    assert not torch.equal(operator(x), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_snapshot_holds_after_a_move_to_another_device():
    p = parameter()
    taken = Snapshot([p])
    assert taken.holds([nn.Parameter(p.detach().cuda())]) and not taken.holds([nn.Parameter(p.detach().cuda() + 1)])
