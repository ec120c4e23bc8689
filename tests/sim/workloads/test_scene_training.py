"""Training on scenes: an interrupted run gives the same weights, and what is trained is not trained again."""

import pytest
import torch

from quant.zoo.linear_attention import LinearAttentionSegmenter
from sim.workloads.scene_training import Training, logits_of, trained

TRAINING = Training(steps=4, batch=2, stored=2)


def small(seed: int) -> LinearAttentionSegmenter:
    torch.manual_seed(seed)
    return LinearAttentionSegmenter((4, 4, 3), 4)


def test_a_run_that_stops_goes_on_to_the_same_weights_which_are_then_read(tmp_path):
    whole = trained("small", small, TRAINING, folder=tmp_path / "whole").state_dict()
    steps: list[int] = []

    def stop() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("small", small, TRAINING, stop, tmp_path / "parts")
    resumed = trained("small", small, TRAINING, lambda: steps.append(1), tmp_path / "parts")
    assert len(steps) == 5  # two kept, one lost, two more
    assert all(torch.equal(whole[key], value) for key, value in resumed.state_dict().items())
    again = trained("small", small, TRAINING, lambda: steps.append(1), tmp_path / "parts")
    assert len(steps) == 5 and not again.training
    assert all(torch.equal(whole[key], value) for key, value in again.state_dict().items())
    assert logits_of(again, torch.zeros(1, 1, 32, 32)).shape == (1, 11, 32, 32)


def test_training_learns(tmp_path):
    from quant.zoo.scenes import Composer

    images, labels = Composer(held_out=True).scenes(20, 0)
    losses = []
    for steps in (1, 40):
        model = trained("small", small, Training(steps, batch=8, rate=0.15, stored=40), folder=tmp_path / str(steps))
        with torch.no_grad():
            losses.append(float(torch.nn.functional.cross_entropy(logits_of(model, images), labels)))
    assert losses[1] < 0.7 * losses[0]
