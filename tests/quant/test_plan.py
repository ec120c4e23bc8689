"""Plans: later rules refine earlier ones, what is written comes back, and every mistake is one line that names it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.plan import ACTIVATION_OBSERVERS, WEIGHT_OBSERVERS, Plan, Rule, Settings
from sim.reference import InputError, PwlTable

TABLE = PwlTable(
    function="gelu", domain=(-4.0, 4.0), scales=(5,), slope_frac_bits=6, intercept_frac_bits=6, bp_frac_bits=5,
    slopes=(0, 32), intercepts=(0, 1), breakpoints=(0,),
)  # fmt: skip
NAMES = ("encoder.0.query", "encoder.0.output", "encoder.1.query", "head")

settings = st.fixed_dictionaries(
    {},
    optional={
        "weight_bits": st.integers(2, 8),
        "row_groups": st.integers(1, 64),
        "weight_symmetric": st.booleans(),
        "weight_observer": st.sampled_from(WEIGHT_OBSERVERS),
        "multiplier_bits": st.integers(1, 16),
        "activation_bits": st.none() | st.integers(2, 16),
        "activation_observer": st.sampled_from(ACTIVATION_OBSERVERS),
        "percentile": st.floats(50, 100),
        "tables": st.dictionaries(st.sampled_from(["gelu", "exp"]), st.sampled_from(["exact", TABLE])),
        "skip": st.booleans(),
    },
)
rules = st.builds(lambda modules, s: Rule(modules, **s), st.sampled_from([".*", r"encoder\.\d\..*", "head"]), settings)


@given(st.lists(rules, min_size=1, max_size=4))
def test_a_plan_comes_back_as_it_was_written_with_the_same_hash(listed):
    plan = Plan(tuple(listed))
    again = Plan.from_json(plan.to_json())
    assert again == plan and again.digest == plan.digest and again.to_json() == plan.to_json()
    assert again.resolve(NAMES) == plan.resolve(NAMES)


@given(st.lists(rules, min_size=1, max_size=4))
def test_each_setting_is_that_of_the_last_matching_rule_that_gives_it(listed):
    for name, resolved in Plan(tuple(listed)).resolve(NAMES).items():
        matching = [rule.settings for rule in listed if rule.matches(name)]
        for key in ("weight_bits", "activation_bits", "percentile"):
            given_values = [row[key] for row in matching if key in row]
            assert getattr(resolved, key) == (given_values[-1] if given_values else getattr(Settings(), key))


def test_tables_of_several_rules_add_up_site_by_site():
    plan = Plan((Rule(".*", tables={"gelu": "exact", "exp": "exact"}), Rule("head", tables={"gelu": TABLE})))
    resolved = plan.resolve(NAMES)
    assert resolved["head"].tables == {"gelu": TABLE, "exp": "exact"}
    assert resolved["encoder.0.query"].tables == {"gelu": "exact", "exp": "exact"}


def test_a_rule_must_match_the_whole_name_and_what_no_rule_matches_is_skipped():
    resolved = Plan((Rule("encoder.0.query", weight_bits=4),)).resolve((*NAMES, "encoder.0.query.more"))
    assert [name for name, s in resolved.items() if not s.skip] == ["encoder.0.query"]


def test_a_rule_that_matches_nothing_is_an_error_that_names_it():
    plan = Plan((Rule(".*"), Rule("decoder.*", weight_bits=4)))
    with pytest.raises(InputError, match=r"^rules\[1\]: 'decoder\.\*' matches no module of 4, the first 'encoder"):
        plan.resolve(NAMES)
    with pytest.raises(InputError, match=r"^rules\[0\]: '\.\*' matches no module since there is none"):
        plan.resolve([])


def test_the_hash_holds_the_table_and_its_order_but_not_its_provenance():
    def digest(table: PwlTable) -> str:
        return Plan.uniform(tables={"gelu": table}).digest

    content = TABLE.to_dict()
    told = PwlTable.from_dict({**content, "provenance": {"seed": 1}})
    other = PwlTable.from_dict({**content, "intercepts": [0, 2]})
    assert digest(told) == digest(TABLE) != digest(other)
    two = (Rule(".*", weight_bits=4), Rule("head", weight_bits=8))
    assert Plan(two).digest != Plan(two[::-1]).digest


def test_a_table_is_read_from_beside_the_plan_and_written_in_full(tmp_path):
    TABLE.save(tmp_path / "tables" / "gelu.json")
    plan = {"format": "bitwright-plan", "version": 1,
            "rules": [{"modules": ".*", "tables": {"gelu": "tables/gelu.json", "exp": "exact"}}]}  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    read = Plan.load(tmp_path / "plan.json")
    assert read.rules[0].settings["tables"] == {"gelu": TABLE, "exp": "exact"}
    read.save(tmp_path / "elsewhere" / "plan.json")
    assert Plan.load(tmp_path / "elsewhere" / "plan.json") == read
    with pytest.raises(InputError, match=r"not the path 'tables/gelu\.json'"):
        Plan.from_dict(plan)


BAD = [
    ("{", "not valid JSON"),
    ("[]", "must be a JSON object, not list"),
    ('{"format": "other"}', 'format must be "bitwright-plan"'),
    ('{"format": "bitwright-plan", "version": 2}', "version must be 1, not 2"),
    ('{"format": "bitwright-plan", "version": 1}', "rules must be a list"),
    ('{"format": "bitwright-plan", "version": 1, "rules": []}', "rules must hold at least one rule"),
    ('{"format": "bitwright-plan", "version": 1, "rules": [], "rule": 1}', "unknown key 'rule'"),
    ('{"format": "bitwright-plan", "format": "bitwright-plan"}', "key 'format' is given twice"),
    ("RULE 3", "rules[0] must be an object, not int"),
    ("RULE {}", "rules[0]: missing key 'modules'"),
    ('RULE {"modules": "("}', "rules[0]: modules must be a regular expression, not '('"),
    ('RULE {"modules": 1}', "rules[0]: modules must be a regular expression, not 1"),
    ('RULE {"modules": ".*", "bits": 4}', "rules[0]: unknown key 'bits'"),
    ('RULE {"modules": ".*", "weight_bits": 1}', "rules[0]: weight_bits must be in 2..8, not 1"),
    ('RULE {"modules": ".*", "weight_bits": 4.0}', "weight_bits must be an integer, not 4.0"),
    ('RULE {"modules": ".*", "weight_bits": true}', "weight_bits must be an integer, not True"),
    ('RULE {"modules": ".*", "activation_bits": "8"}', "activation_bits must be an integer or null, not '8'"),
    ('RULE {"modules": ".*", "weight_granularity": "row"}', "must be one of tensor, rows, channel, group, not 'row'"),
    ('RULE {"modules": ".*", "activation_observer": []}', "must be one of minmax, percentile, mse, not []"),
    ('RULE {"modules": ".*", "hadamard": "yes"}', "hadamard must be true, false or the size of a block, not 'yes'"),
    ('RULE {"modules": ".*", "hadamard": 48}', "block must be a power of two, not 48"),
    ('RULE {"modules": ".*", "percentile": 101}', "percentile must be a number in 50..100, not 101"),
    ('RULE {"modules": ".*", "skip": 1}', "skip must be true or false, not 1"),
    ('RULE {"modules": ".*", "tables": []}', "tables must be an object of sites, not []"),
    ('RULE {"modules": ".*", "tables": {"gelu": 1}}', "tables['gelu'] must be a table or 'exact', not 1"),
    ('RULE {"modules": ".*", "tables": {"gelu": {}}}', "tables['gelu']: format must be"),
    ('RULE {"modules": ".*", "tables": {"gelu": "none.json"}}', "none.json: cannot be read"),
]


@pytest.mark.parametrize("text, message", BAD, ids=[message for _, message in BAD])
def test_a_bad_plan_is_one_line_with_the_file_and_key(text, message, tmp_path):
    if text.startswith("RULE "):
        text = f'{{"format": "bitwright-plan", "version": 1, "rules": [{text[5:]}]}}'
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError) as error:
        Plan.load(tmp_path / "plan.json")
    assert message in str(error.value) and str(error.value).startswith(f"{tmp_path / 'plan.json'}: ")
    assert "\n" not in str(error.value)


def test_a_group_size_means_groups_and_another_granularity_forgets_it():
    plan = Plan(
        (Rule(".*", group_size=64), Rule("head", weight_granularity="channel"), Rule("encoder.1.*", group_size=8))
    )
    resolved = plan.resolve(NAMES)
    assert [(s.weight_granularity, s.group_size) for s in resolved.values()] == [
        ("group", 64), ("group", 64), ("group", 8), ("channel", None),
    ]  # fmt: skip


def test_settings_that_contradict_each_other_name_the_module():
    plan = Plan((Rule(".*"), Rule("head", weight_granularity="channel", group_size=64)))
    with pytest.raises(InputError, match=r'^head: group_size needs weight_granularity "group", not "channel"$'):
        plan.resolve(NAMES)
    with pytest.raises(InputError, match="needs group_size"):
        Plan.uniform(weight_granularity="group").resolve(NAMES)
