"""Llama's family and GPT-2 in integers: near the model, the same with a cache of keys and values and on disk."""

import copy
import json
from functools import cache

import pytest
import torch

pytest.importorskip("transformers", reason="the models are those of transformers")

import sim
from ga_search import fit_table
from sim.network.integer_only import require_integer
from sim.network.operators.base import set_mode
from sim.network.operators.causal import KeyValueCache
from sim.network.recorded_vectors import network_sets
from sim.reference import InputError
from tests.sim.network.language_models import KINDS, LLAMA, language_model, prompts
from tests.sim.network.models import EXACT, TABLES, plan
from tests.sim.network.specification import require_specified
from tests.sim.network.test_ambient import CONTEXTS


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def network(kind):
    return converted(kind)


@pytest.fixture(scope="module")
def llama():
    return converted("LlamaForCausalLM")


@cache
def converted(kind):
    data = [{"input_ids": prompts(seed=seed)} for seed in range(2)]
    return sim.convert(language_model(kind), plan(EXACT), data)


def test_the_integers_are_near_the_model(kind, network):
    model = language_model(kind)
    ids = prompts(seed=5)
    with torch.no_grad():
        real = model.base_model(input_ids=ids).last_hidden_state
    got = network(input_ids=ids).last_hidden_state
    assert float((got - real).square().mean() / real.square().mean()) < 0.01


def test_every_operator_equals_its_specification(network):
    assert require_specified(network, {"input_ids": prompts()}) <= {"embedding", "split"}


def test_padding_on_the_left_is_masked_as_in_the_model(kind, network):
    ids, mask = prompts(), torch.ones(3, 20, dtype=torch.long)
    mask[1, :7] = 0
    set_mode(network, "real")
    try:
        got = network(input_ids=ids, attention_mask=mask).last_hidden_state
    finally:
        set_mode(network, "integer")
    with torch.no_grad():
        real = language_model(kind).base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        got = got.detach()
    kept = mask != 0
    assert float((got - real)[kept].abs().max() / real.abs().max()) < 1e-3


CHUNKS = [(1, 20, [1] * 20), (3, 20, [5, 1, 1, 1, 12]), (2, 9, [4, 5]), (3, 20, [1, 19])]


@pytest.mark.parametrize("rows, length, chunks", CHUNKS)
def test_a_run_with_a_cache_equals_the_run_over_the_whole_sequence_code_for_code(network, chunks, rows, length):
    ids = prompts(rows, length, seed=rows)
    whole = network.codes(input_ids=ids)
    cache, parts = KeyValueCache(), []
    for part in ids.split(chunks, 1):
        parts.append(network.codes(input_ids=part, cache=cache))
    assert cache.length == length and torch.equal(torch.cat(parts, 1), whole)


def test_a_later_token_changes_no_earlier_code(network):
    ids, other = prompts(), prompts()
    other[:, 12:] = prompts(seed=9)[:, 12:]
    assert torch.equal(network.codes(input_ids=ids)[:, :12], network.codes(input_ids=other)[:, :12])


def test_a_masked_run_with_a_cache_equals_the_whole_one(llama):
    ids, mask = prompts(), torch.ones(3, 20, dtype=torch.long)
    mask[0, :4] = 0
    whole = llama.codes(input_ids=ids, attention_mask=mask)
    cache = KeyValueCache()
    parts = [
        llama.codes(input_ids=ids[:, a:b], attention_mask=mask[:, :b], cache=cache) for a, b in ((0, 11), (11, 20))
    ]
    assert torch.equal(torch.cat(parts, 1), whole)


def test_a_written_network_gives_the_same_codes_and_names_its_head(kind, network, tmp_path):
    ids = prompts(seed=3)
    content = json.loads(sim.save(network, tmp_path).read_text())
    read = sim.load(tmp_path)
    assert torch.equal(read.codes(input_ids=ids), network.codes(input_ids=ids))
    cache = KeyValueCache()
    assert torch.equal(read.codes(input_ids=ids, cache=cache), network.codes(input_ids=ids))
    assert "the head of a language model stays floating point" in next(iter(content["boundary"].values()))


def test_no_floating_point_is_inside_with_a_cache_or_without(network):
    require_integer(network, input_ids=prompts())
    cache = KeyValueCache()
    for part in prompts().split(10, 1):
        assert require_integer(network, input_ids=part, cache=cache).products > 0


@pytest.mark.parametrize("key", ["layers.0.scores", "layers.1.context", "layers.0.q_rope", "layers.1.product"])
def test_a_float_that_is_seeded_in_an_operator_is_noticed(kind, network, monkeypatch, key):
    if kind.startswith("GPT2") and ("rope" in key or "product" in key):
        key = "layers.0.qkv"
    operator = network[key]
    honest = operator.integer
    monkeypatch.setattr(operator, "integer", lambda *a: (honest(*a).double() * 0.5).to(torch.int16))
    with pytest.raises(InputError, match="in the integer network"):
        require_integer(network, input_ids=prompts())


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_no_context_changes_a_code(llama, context):
    ids = prompts()
    codes = llama.codes(input_ids=ids)
    cache = KeyValueCache()
    with context():
        assert torch.equal(llama.codes(input_ids=ids), codes)
        llama.codes(input_ids=ids[:, :8], cache=cache)
    assert torch.equal(llama.codes(input_ids=ids[:, 8:], cache=cache), codes[:, 8:])


def test_the_fake_mode_has_the_integers_values_and_gradients(network):
    ids = prompts()
    expected = network(input_ids=ids).last_hidden_state
    set_mode(network, "fake")
    try:
        got = network.stream(input_ids=ids)
        assert torch.equal(got, expected) and got.requires_grad
        with pytest.raises(InputError, match='needs every operator in the mode "integer"'):
            network.stream(input_ids=ids, cache=KeyValueCache())
    finally:
        set_mode(network, "integer")


def test_bad_arguments_are_one_line(llama):
    with pytest.raises(InputError, match="input_ids must have at most 64 tokens with the cached, not 65"):
        llama.codes(input_ids=prompts(1, 65))
    with pytest.raises(InputError, match="attention_mask must have 20 columns"):
        llama.codes(input_ids=prompts(), attention_mask=torch.ones(3, 4))
    cache = KeyValueCache()
    llama.codes(input_ids=prompts(3, 4), cache=cache)
    with pytest.raises(InputError, match="cache must be of 2 sequences, not 3"):
        llama.codes(input_ids=prompts(2, 4), cache=cache)
    with pytest.raises(InputError, match="position_ids must be 4 positions below 64"):
        llama.codes(input_ids=prompts(2, 4), position_ids=torch.full((2, 4), 64))
    with pytest.raises(InputError, match=r"position_ids must be integers, not torch\.float32"):
        llama.codes(input_ids=prompts(2, 4), position_ids=torch.zeros(2, 4))
    with pytest.raises(InputError, match="attention_mask must have 1 or 3 rows, not 2"):
        llama.codes(input_ids=prompts(), attention_mask=torch.ones(2, 20))
    for wrong in (True, {}):
        with pytest.raises(InputError, match="cache must be a KeyValueCache, not"):
            llama.codes(input_ids=prompts(), cache=wrong)


def test_a_cache_of_another_network_is_refused(llama):
    cache = KeyValueCache()
    converted("MistralForCausalLM").codes(input_ids=prompts(3, 4), cache=cache)
    with pytest.raises(InputError, match="cache holds the tokens of another network"):
        llama.codes(input_ids=prompts(3, 4), cache=cache)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_is_interrupted_leaves_the_cache_as_it_was(llama, error, monkeypatch):
    cache, ids = KeyValueCache(), prompts()
    llama.codes(input_ids=ids[:, :8], cache=cache)

    def stop(*arguments):
        raise error

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(llama["layers.1.scores"], "integer", stop)
        llama.codes(input_ids=ids[:, 8:], cache=cache)
    assert cache.length == 8
    assert torch.equal(llama.codes(input_ids=ids[:, 8:], cache=cache), llama.codes(input_ids=ids)[:, 8:])


LONG_ROPE = {
    "rope_type": "longrope", "factor": 2.0, "rope_theta": 500.0, "short_factor": (1.0,) * 4, "long_factor": (2.0,) * 4,
    "original_max_position_embeddings": 32,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:softmax")
def test_every_site_with_a_unit_gives_vectors():
    tables = TABLES | {"silu": fit_table("silu", method="uniform")}
    network = sim.convert(language_model("LlamaForCausalLM"), plan(tables), [{"input_ids": prompts()}])
    found = {v.name: v for v in network_sets("llama", network, [{"input_ids": prompts(2, 7)}], {"seed": 0})}
    assert {v.unit for v in found.values()} == {"pwl", "softmax", "rmsnorm", "normaliser", "product", "rope"}
    tokens, layers = 2 * 7, 2
    assert found["llama-rope"].size == tokens * layers * (4 + 2) * 4  # heads of queries and keys, pairs of channels
    assert found["llama-product-16-16-16"].size == tokens * layers * 48


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("LlamaForCausalLM", {"hidden_act": "tanh"}, "hidden_act must be one of"),
        ("GPT2LMHeadModel", {"add_cross_attention": True}, "add_cross_attention must be False"),
        (
            "Qwen2Model",
            {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 6},
            "layer_types must be all alike",
        ),
        ("LlamaForCausalLM", {"rope_parameters": LONG_ROPE}, "rope_type must not be 'longrope', whose angles change"),
    ],
)
def test_what_has_no_integer_operator_is_refused(kind, changes, message):
    with pytest.raises(InputError, match=message):
        sim.convert(language_model(kind, **_frozen(changes)), plan(EXACT), [{"input_ids": prompts()}])


@pytest.mark.parametrize(
    "kind, path, key",
    [
        ("LlamaForCausalLM", "layers.0.input_layernorm", "layers.0.norm1"),
        ("GPT2LMHeadModel", "h.0.attn.c_attn", "layers.0.qkv"),
        ("GPT2LMHeadModel", "h.1.attn.c_proj", "layers.1.out"),
        ("GPT2LMHeadModel", "h.1.mlp.c_fc", "layers.1.up"),
    ],
)
def test_a_weight_that_the_model_writes_or_replaces_is_in_the_codes(kind, path, key):
    model = copy.deepcopy(language_model(kind))
    network = sim.convert(model, plan(EXACT), [{"input_ids": prompts()}])
    module, found = model.base_model.get_submodule(path), [network.codes(input_ids=prompts())]
    with torch.no_grad():
        module.weight.mul_(0.5)
        found.append(network.codes(input_ids=prompts()))
        module.weight = torch.nn.Parameter(module.weight * -1)
        found.append(network.codes(input_ids=prompts()))
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])
    set_mode(network, "fake")
    network.stream(input_ids=prompts()).square().sum().backward()
    assert module.weight.grad is not None and bool(module.weight.grad.any())
    assert any(parameter is module.weight for parameter in network[key].parameters())


def test_heads_of_their_own_width_and_scaled_positions_convert():
    changes = {"head_dim": 12, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}}
    assert "head_dim" not in LLAMA
    sim.convert(language_model("LlamaForCausalLM", **_frozen(changes)), plan(EXACT), [{"input_ids": prompts()}])


def _frozen(changes):
    """Changes that can be the key of a cache."""

    class Frozen(dict):
        def __hash__(self):  # pyright: ignore[reportIncompatibleVariableOverride]
            return hash(tuple(self.items()))

    return {key: Frozen(value) if isinstance(value, dict) else value for key, value in changes.items()}
