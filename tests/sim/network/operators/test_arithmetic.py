"""Blocks over threads give what one thread gives, also without gradients and where a mode watches."""

import pytest
import torch

from sim.network.integer_only import IntegerOnly
from sim.network.operators.arithmetic import blockwise, code_type, half, round_half_up_, saturate_, spread
from sim.network.operators.tables import Gather
from sim.reference import InputError


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_blocks_put_together_are_the_whole(two_threads):
    x, y = torch.arange(600_000).reshape(2, 300, 1000), torch.arange(600).reshape(2, 300, 1)
    with torch.inference_mode():
        assert torch.equal(blockwise(lambda a, b: a * b, torch.int64, x, y), x * y)
    assert blockwise(lambda a: a, torch.int8, torch.empty(3, 0, 5, dtype=torch.int64)).shape == (3, 0, 5)


def test_every_part_is_done_once_and_an_error_is_not_lost(two_threads):
    done: list[int] = []
    spread(done.append, 101)
    assert sorted(done) == list(range(101))

    def fails(number: int) -> None:
        if number == 77:
            raise InputError("77")

    with pytest.raises(InputError, match="77"):
        spread(fails, 101)


def test_a_mode_sees_what_blocks_do(two_threads):
    x = torch.zeros(400, 1000, dtype=torch.int64)
    with pytest.raises(InputError, match="floating point"), IntegerOnly():
        blockwise(lambda a: a.float().long(), torch.int64, x)


def test_a_gather_over_threads_equals_one_thread(two_threads):
    x = torch.randint(-128, 128, (500_001,), dtype=torch.int8)
    values = torch.randint(-128, 128, (256,)).numpy()
    module = Gather([values])
    assert torch.equal(module(x), torch.as_tensor(values)[x.long() + 128].to(torch.int8))


def test_rounding_is_half_up_and_codes_take_their_smallest_type():
    x = torch.tensor([-6, -5, -3, -2, -1, 0, 1, 2, 3, 5, 6])
    assert round_half_up_(x.clone(), 2).tolist() == [-1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 2]
    shifts = torch.tensor([0, 1, 5])
    assert half(shifts).tolist() == [0, 1, 16]
    assert round_half_up_(torch.tensor([7, 7, 47]), shifts).tolist() == [7, 4, 1]
    assert saturate_(torch.tensor([-200, 200]), 8).tolist() == [-128, 127]
    assert [code_type(bits) for bits in (2, 8, 9, 16, 17)] == [
        torch.int8,
        torch.int8,
        torch.int16,
        torch.int16,
        torch.int32,
    ]
