"""The details that this package writes are checked by key before anything is built from them."""

import pytest

import quant
from quant.formats.packed_schema import require_details
from quant.plan import Plan
from quant.pretrained import pack_model
from sim.reference import InputError
from tests.quant.models import batches, encoder

PACKED = pack_model(quant.quantize(encoder(), Plan.uniform(), batches()))
ACTIVATION = PACKED.details["layers"]["first"]["activation"]


@pytest.mark.parametrize("change, message", [
    ({"layers": None}, r"^details\.layers must be an object, not null$"),
    ({"layers": {"other": {"activation": None}}}, r"^details\.layers\['other'\] has no weight$"),
    ({"layers": {"first": {}}}, "missing key 'activation'"),
    ({"layers": {"first": {"activation": {**ACTIVATION, "shift": None}}}}, r"activation\.shift must be an integer"),
    ({"layers": {"first": {"activation": {**ACTIVATION, "bits": True}}}}, "bits must be an integer in 2"),
    ({"rows": {}}, "rows must be a list of objects, not {}"),
    ({"rows": [None]}, r"rows\[0\] must be an object, not null"),
    ({"rows": [{}]}, r"rows\[0\]\.module must be text, not null"),
    ({"tied": {"a": "b"}}, r"tied\['a'\] must be the name of a tensor or weight, not 'b'"),
    ({"coverage": {"parameters": 1}}, r"coverage\.integer_parameters must be an integer"),
    ({"coverage": {**PACKED.details["coverage"], "share": 2}}, r"coverage\.share must be a number in 0\.\.1, not 2"),
])  # fmt: skip
def test_a_value_at_fault_is_named(change, message):
    require_details(PACKED.details, PACKED.tensors, PACKED.weights)
    with pytest.raises(InputError, match=message):
        require_details({**PACKED.details, **change}, PACKED.tensors, PACKED.weights)
