"""The corpora as text: tags go, splits do not overlap, and a missing corpus says how to get it."""

from pathlib import Path

import pytest

from quant.zoo import corpora
from sim.common.errors import InputError


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """500 samples of one sentence each, under the corpus's own names."""
    monkeypatch.setenv("BITWRIGHT_CORPORA", str(tmp_path))
    (tmp_path / "brown").mkdir()
    for i in range(500):
        text = f"\n\n\tSample/nn {i}/cd :/: ``/`` Why/wrb ?/. ?/. ''/'' ,/, asked/vbd Jones/np (/( again/rb )/) ./.\n"
        (tmp_path / "brown" / f"c{'abcdefghij'[i // 50]}{i % 50:02}").write_text(text)
    (tmp_path / "brown" / "README").write_text("no sample")
    return tmp_path


def test_brown_is_plain_text_in_three_disjoint_splits(samples: Path) -> None:
    parts = {split: corpora.brown(split).split("\n\n") for split in corpora.SPLITS}
    assert [len(parts[split]) for split in corpora.SPLITS] == [400, 50, 50]
    assert len({text for part in parts.values() for text in part}) == 500
    assert parts["validation"][0] == 'Sample 4: "Why?", asked Jones (again).'


def test_a_corpus_that_is_not_there_says_which_command_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITWRIGHT_CORPORA", str(tmp_path))
    for read in (lambda: corpora.brown("test"), corpora.gcide):
        with pytest.raises(InputError, match="make corpora"):
            read()


def test_a_command_finds_the_corpus_by_name_as_a_file_of_plain_text(samples: Path) -> None:
    assert corpora.path_of("brown", "test").read_text() == corpora.brown("test")
    assert corpora.path_of("other.txt") == Path("other.txt")


def test_an_unknown_split_is_refused(samples: Path) -> None:
    with pytest.raises(InputError, match="split must be one of train, validation, test, not 'dev'"):
        corpora.brown("dev")  # pyright: ignore[reportArgumentType]
