"""Nothing that is set around a network changes a code: autocast, types, devices, determinism, train and eval."""

import contextlib
import copy

import pytest
import torch
from torch import nn

import sim
from sim.network.operators.base import set_mode
from sim.reference import InputError
from tests.sim.network.models import bert, plan, real_batches, token_batches, torch_encoder


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


CONTEXTS = {
    "autocast bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", torch.float16),
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": deterministic,
    "default device": lambda: torch.device("meta"),
}
MODELS = {"bert": (bert, token_batches), "torch": (lambda: torch_encoder(activation="relu"), real_batches)}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize("model, batches", MODELS.values(), ids=MODELS)
def test_no_context_changes_a_code_in_any_mode_or_a_byte_of_the_folder(model, batches, context, tmp_path):
    data, original = batches(), model()
    network = sim.convert(original, plan(), data)
    codes = network.codes(**data[0])
    set_mode(network, "fake")
    fake = network.stream(**data[0])
    set_mode(network, "integer")
    sim.save(network, tmp_path / "outside")
    with context():
        made = sim.convert(original, plan(), data)
        assert torch.equal(made.codes(**data[0]), codes) and torch.equal(network.codes(**data[0]), codes)
        set_mode(network, "fake")
        got = network.stream(**data[0])
        assert got.dtype == torch.float32 and torch.equal(got, fake)
        sim.save(made, tmp_path / "inside")
        loaded = sim.load(tmp_path / "inside")
        assert torch.equal(loaded.codes(**data[0]), codes)
    assert torch.equal(loaded.codes(**data[0]), codes) and torch.equal(made.codes(**data[0]), codes)
    for path in (tmp_path / "outside").iterdir():
        assert path.read_bytes() == (tmp_path / "inside" / path.name).read_bytes()
    set_mode(made, "fake")
    made.stream(**data[0]).sum().backward()  # what was converted inside can be trained outside


@pytest.mark.parametrize(
    "change", [nn.Module.half, nn.Module.bfloat16, nn.Module.double, lambda n: n.to(torch.float16)]
)
def test_another_type_of_numbers_is_refused_in_one_line(change):
    data = token_batches(1)
    network = sim.convert(copy.deepcopy(bert()), plan(), data)
    codes = network.codes(**data[0])
    with pytest.raises(InputError, match=r"an integer network cannot be changed to torch\.\w+; convert the model in"):
        change(network)
    assert torch.equal(network.codes(**data[0]), codes)


@pytest.mark.parametrize("mode", ["integer", "fake"])
def test_no_context_changes_an_operator_that_is_called_alone(mode):
    data = token_batches(1)[0]
    network = sim.convert(copy.deepcopy(bert()), plan(), [data])
    set_mode(network, mode)
    calls = []
    hooks = [
        o.register_forward_hook(lambda o, given, made: calls.append((o, given, made))) for o in network.operators()
    ]
    network.stream(**data)
    for hook in hooks:
        hook.remove()
    assert len(calls) == len(list(network.operators()))
    for context in CONTEXTS.values():
        for operator, given, made in calls:
            with context():
                again = operator(*given)
            pairs = zip(made, again, strict=True) if isinstance(made, tuple) else [(made, again)]
            assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs), operator.name


@pytest.mark.parametrize("change", [
    nn.Module.half, nn.Module.bfloat16, lambda o: o.type(torch.float16), lambda o: o.to(torch.bfloat16),
])  # fmt: skip
def test_another_type_is_refused_by_each_operator_or_leaves_it_unchanged(change):
    network = sim.convert(copy.deepcopy(bert()), plan(), token_batches(1))
    refused = 0
    for operator in network.operators():
        before = copy.deepcopy(operator.state_dict())
        try:
            change(operator)
        except InputError as error:
            refused += 1
            assert operator.name in str(error) and "cannot be changed from torch." in str(error)
        after = operator.state_dict()
        assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)
    assert refused


def test_train_and_eval_of_every_module_of_the_model_are_left_as_they_were():
    model = copy.deepcopy(bert()).train()
    for number, module in enumerate(model.modules()):
        module.training = number % 3 == 0  # dropout on here, layers frozen there
    before = [module.training for module in model.modules()]
    network = sim.convert(model, plan(), token_batches())
    assert [module.training for module in model.modules()] == before
    network.train().eval()
    assert [module.training for module in model.modules()] == before
