"""Block-AP trains in the memory of one block: what it takes beside a copy of the model does not grow with layers."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("transformers", reason="the models are those of transformers")

PEAK = """
import json, resource, sys
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from quant.methods.efficientqat.block_ap import BlockAp
from quant.methods.efficientqat.quantise import Options, efficientqat
config = LlamaConfig(vocab_size=64, hidden_size=512, intermediate_size=1024, num_hidden_layers=int(sys.argv[1]),
                     num_attention_heads=8, num_key_value_heads=8)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
model = LlamaForCausalLM(config)
data = [{"input_ids": torch.randint(64, (2, 16))} for _ in range(3)]
before = peak()
efficientqat(model, data, Options(2, 64, BlockAp((1e-3, 1e-3), epochs=1)))
size = sum(p.nbytes for p in model.parameters())
block = sum(p.nbytes for p in model.model.layers[0].parameters())
print(json.dumps([peak() - before - size, block]))
"""


@pytest.mark.slow
def test_what_block_ap_takes_beside_a_copy_of_the_model_does_not_grow_with_its_layers() -> None:
    taken = {}
    for layers in (4, 8, 16):
        done = subprocess.run([sys.executable, "-c", PEAK, str(layers)], capture_output=True, text=True, check=True)
        taken[layers], block = json.loads(done.stdout)
    print(taken, block)
    assert max(taken.values()) - min(taken.values()) < 2 * block
    assert taken[4] > 2 * block  # gradients and the optimiser's state are among it
