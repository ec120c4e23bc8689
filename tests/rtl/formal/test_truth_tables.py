"""The truth-table unit is proved to give its table, and a fault in it is refuted."""

import pytest

from rtl.formal.faults import TRUTH_TABLE_FAULTS, faulty
from rtl.formal.truth_tables import truth_table_proofs

PROOFS = truth_table_proofs()


def test_every_code_at_every_scale_is_proved_to_be_the_table_s():
    result = PROOFS[0].run()
    assert (result.outcome, result.assertions) == ("proved", 1)


def test_a_flipped_bit_of_the_table_is_refuted():
    assert faulty(PROOFS, TRUTH_TABLE_FAULTS[:1])[0].run().outcome == "refuted"


@pytest.mark.slow
def test_the_handshake_is_proved_and_the_other_faults_are_refuted():
    assert PROOFS[1].run().outcome == "proved"
    assert [proof.run().outcome for proof in faulty(PROOFS, TRUTH_TABLE_FAULTS[1:])] == ["refuted"] * 2
