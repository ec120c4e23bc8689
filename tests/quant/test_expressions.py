"""A plan's expressions: those that could run on are refused, ordinary ones are not."""

import pytest

from quant.plan import Rule
from sim.reference import InputError


@pytest.mark.parametrize("expression", [
    "(([a-z0-9._])+)+!", "(a?){30}a{30}", "(a|aa)+!", "(?:a*)*", "(?=(a+)+b).*", "(a{1,9}){1,9}", ".*.*.*.*.*.*!",
])  # fmt: skip
def test_an_expression_that_could_run_on_is_refused(expression):
    with pytest.raises(InputError, match=r"^modules must "):
        Rule(expression)


@pytest.mark.parametrize("expression, name, matches", [
    (".*", "a.b", True), (r"encoder\.layer\.\d+\.(query|key)", "encoder.layer.11.key", True),
    (r"(?!.*head).*", "lm_head", False), (r"(model\.)?layers\.[0-3]\.mlp\..*", "layers.2.mlp.up", True),
    (r"(\d\d){2}", "1234", True), ("a|b.*|c.*|d.*|e.*|f.*|g.*", "g1", True),
])  # fmt: skip
def test_ordinary_expressions_are_matched_as_before(expression, name, matches):
    assert Rule(expression).matches(name) is matches
