"""The index reads, without torch, what `quant.formats.packed` wrote: the same tensors, and the same refusals."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors import torch as safetensors

from quant.formats import packed_index
from quant.formats.packed_index import PackedIndex, read_files
from sim.reference import InputError
from tests.quant.formats.test_packed import model


def test_every_tensor_is_there_with_its_values(tmp_path):
    model(1).save(tmp_path, shard_bytes=1)
    index = PackedIndex.load(tmp_path)
    stored = {k: v for path in tmp_path.glob("*.safetensors") for k, v in safetensors.load_file(path).items()}
    assert set(index.tensors) == set(stored) and len(index.content["files"]) > 1
    for name, tensor in stored.items():
        own = index.tensors[name]
        assert own.shape == tuple(tensor.shape) and len(own.data) == tensor.nbytes
        if tensor.is_floating_point():
            with pytest.raises(InputError, match="must be integers"):
                own.integers()
        else:
            assert np.array_equal(own.integers(), tensor.numpy())


def test_no_torch_is_imported(tmp_path):
    model(1).save(tmp_path)
    code = f"import sys; from quant.formats.packed_index import PackedIndex; PackedIndex.load({str(tmp_path)!r})"
    code += "; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["../x.safetensors", "/dev/zero", "a/b", ".", ""])
def test_files_outside_the_folder_are_not_opened(name, tmp_path):
    with pytest.raises(InputError, match="files must have plain names"):
        read_files(tmp_path, {"files": {name: "0"}, "tensors": {}})


def test_a_named_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(InputError, match="x: must be a regular file"):
        read_files(tmp_path, {"files": {"x": "0"}, "tensors": {}})


@pytest.mark.parametrize("shape, places", [([1 << 50], [0, 8]), ([2], [0, 7]), ([-2], [0, 8]), ([1], [8, 12]),
                                           ([1.0], [0, 4]), ([True], [0, 4])])  # fmt: skip
def test_a_header_that_does_not_fit_the_file_is_refused(shape, places, tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": places}}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(8)
    with pytest.raises(InputError, match="x: not a safetensors file"):
        packed_index._tensors(tmp_path / "x", data)
