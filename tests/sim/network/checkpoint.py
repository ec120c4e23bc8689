"""A checkpoint folder as transformers writes it: a small BERT and a tokeniser that knows the letters."""

import string
from pathlib import Path

from tests.sim.network.models import bert

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = (*string.ascii_lowercase, *string.digits)


def checkpoint(folder: Path) -> Path:
    """Write the folder and return it."""
    from transformers import BertTokenizer

    words = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    bert(vocab_size=len(words), max_position_embeddings=512).save_pretrained(folder)  # pyright: ignore
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    return folder
