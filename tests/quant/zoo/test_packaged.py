"""Packaged models are found inside their packages, or one line names the extra."""

from importlib.metadata import PackageNotFoundError

import pytest

from quant.zoo import packaged
from quant.zoo.packaged import MODELS, find, path_of
from sim.reference import InputError


@pytest.mark.parametrize("name", MODELS)
def test_a_packaged_model_is_a_path_inside_its_package_or_one_line_names_the_extra(name, monkeypatch):
    try:
        assert find(name).exists() and find(name).parts[-1] == MODELS[name].path.rpartition("/")[2]
    except InputError as error:
        assert f'pip install "bitwright[{MODELS[name].extra}]"' in str(error)

    def absent(distribution):
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(packaged, "distribution", absent)
    with pytest.raises(InputError, match=rf'not installed: pip install "bitwright\[{MODELS[name].extra}\]"'):
        find(name)


def test_a_path_of_that_name_comes_before_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    assert path_of("smollm2").samefile(tmp_path / "smollm2") and str(path_of("folder/model")) == "folder/model"
    with pytest.raises(InputError, match="model must be one of minilm, smollm2, focus, not 'other'"):
        find("other")
