"""Every measured figure in a .md file is that of `results/` or of a program, and none can change unnoticed."""

import re

import pytest

from sim.common.errors import InputError
from sim.common.results import read_results
from tests.figures import RESULTS, blocks, documents, problems, results, rewrite, sentences

# what no measurement gives, in every document: commands and Python (tests/test_documents.py runs them), inline code,
# addresses, names of formats, powers of two, widths, and the numbers of lists
PARAMETERS = re.compile(
    r"```(?:sh|python)\n.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->|\b(?:INT|FP|W)\d+(?:A\d+)?\b|2\^|\b\d-bit\b|^\d\. "
    r"|\bfloat\d\d\b|NAND2|SG13G2|all-MiniLM-L6-v2|\b[Ee]xit code \d|Python 3\.11",
    re.DOTALL | re.MULTILINE,
)
# and in one: versions, literature, and parameters of what was measured
PHRASES = {
    "ARCHITECTURE.md": (
        *(f"| {floor} | `" for floor in range(1, 9)), "the GELU of layer 3", "N - 1 breakpoints",
        "1 is optimal", "for 1/x and 1/sqrt(x)", "16 bits wide",
    ),
    "README.md": ("[2403.19591]", "![GELU with 8 entries", "for 2 to 8-bit weights", "Llama and GPT-2,", "Apache-2.0"),
    "cost_model/README.md": ("NAND2 = 1", "130 nm [SG13G2]", "beside ours, 8 entries at", "Scaled to 28 nm",
        "4 to 8 or 10 to 16 bits each", "one width of 4 to 32 bits",
        "OSU's 180 nm cells", "the flip-flop and OSU018's for two gates",
        "Weights of 5, 6 and 7 bits", "the 8-bit array", "serves 1/x and 1/sqrt(x) behind"),
    "ga_search/README.md": (
        "breakpoints[i - 1]", '`"bitwright-pwl"`, 1', "4 to 32 bits", "`coef_bits` + 4", "N from 2 to 64",
        "N - 1 integers", "SHA-256", "Up to 8 bits every fit", "up to 8 bits |", "arXiv:2403.19591", "arXiv:2112.02191",
        "1 - f(x)",
    ),
    "quant/README.md": (
        "weights of 2 to 8 bits", "inputs of 2 to 16", "outlier of 1000 times", "multipliers of 1 beside 255",
        "GGUF file (Q4_0, Q4_1, Q8_0, F16, F32)", "4 bit in groups of 32", "Qwen3-MoE)", "expert 3 of",
        "layers to 4 bits and attention to 8", "(ZeroQuant, 2206.01861)", "(EfficientQAT, 2407.11062)", "(2505.14302)",
        "layers 4-bit inputs", "kind of layer at 8 bits",
        "(OmniQuant, 2308.13137)", "on an array of 16 x 16", "On SmolLM2 rounding to 2 bits leaves",
        "most weights as 4 bits in groups of 32", "MiniLM and SmolLM2 are not distilled",
        "at 8 bits in char_lm and the three worst in SmolLM2",
        "harms the small model and helps SmolLM2",
        "rounds every input to 8 bits", "At 3 and 4 bits GPTQ", "(m4) multipliers of 4 bits", "in groups of 64:",
        "products run in bfloat16", "SmolLM2: what a method",
    ),
    "rtl/README.md": (
        "in 1 to 7 stages", "up to 16 bits", "the unit with 8 entries and 8 bits", "Of 100 mutants", "must find 95 %",
        "figure 1.13: TSMC 45 nm", "FreePDK45", "weights: 2, 3, 4 or 8-bit", "; 4 or 8-bit activations (8 bits",
        "iCE40, ECP5", "AXI4-Stream",
        "of 16 bits, which rows of more than 128 scores need", "sum to 1 within n/2 steps",
        "of its layout and of GPT-2 too", "times magnitudes have 16 bits", "SmolLM2's layer 0 with",
    ),
    "CHANGELOG.md": ("Qwen2 and GPT-2 with a key-value", "DINOv2, SegFormer", "of 16 bits for long",
        "weights of 5 to 7 bits", "Block-AP and E2E-QP"),
    "sim/README.md": (
        "decoders (Llama, Mistral, Qwen2, GPT-2)", "DeiT, DINOv2",
        "takes Llama, Mistral, Qwen2 and GPT-2", "to 16-bit codes",
        "probabilities of 8 bits, or of 16 if calibration has rows of more than 128", "on 1,000 held-out scenes",
        "SmolLM2-135M-Instruct on", "text: 8 windows of 256 tokens", "weights in groups of 64",
        "as 4 bits in groups of 32",
        "calibration seed 0", "with 95 % intervals, on 1,000 scenes", "exact functions on 16 crops",
        "rounded once to 16 bits", "and 1/sqrt(n) in the scales",
        "weights of 4 bits in groups of 64 with inputs of 4 bits", "the cosine of 64 sentences",
        "Means and 95 % intervals:", "does what 8 bits for their inputs do", "SmolLM2 has not been measured yet",
        "at the machine's int8 peak", "what a front of 200 of them costs", "a small Llama of 4 bits with a Hadamard",
        "Where probabilities have 16 bits, fit", "for input codes of 16 bits too", "rounded to 8 bits is the larger",
        "error of 1/x, however", "Symmetric weights of 4 bits with group multipliers of 4 bits",
        "fit one int8 product", "multipliers of 8 bits take two",
        "Encoders, Llama and GPT-2 run", "SmolLM2's first layers and Brown",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def figures():
    found = results()
    return blocks(found), sentences(found)


def test_the_figures_are_the_measured_ones(figures):
    assert not problems(documents(), *figures), "python -m tests.figures rewrites the tables; the sentences are yours"


def test_every_table_and_every_document_of_the_list_exists(figures):
    texts = documents()
    shown = "".join(texts.values())
    assert all(f"<!-- figures: {name} -->" in shown for name in figures[0]) and set(figures[1]) <= set(texts)


def test_a_changed_digit_is_noticed_unless_it_is_listed_as_no_measurement(figures):
    for path, text in documents().items():
        known = {k for m in PARAMETERS.finditer(text) for k in range(m.start(), m.end())}
        for phrase in PHRASES.get(path, ()):
            pattern = re.escape(phrase).replace(r"\ ", r"\s+")
            (found,) = re.finditer(pattern, text)  # once, so that it excuses no other figure
            known |= set(range(found.start(), found.end()))
        digits = [k for k, character in enumerate(text) if character.isdecimal()]
        unnoticed = [k for k in digits if k not in known and not problems(_changed(path, text, k), *figures)]
        lines = sorted({text[text.rfind("\n", 0, k) + 1 : text.find("\n", k)] for k in unnoticed})
        assert not unnoticed, f"{path}: these figures are held to nothing:\n" + "\n".join(lines)


def _changed(path: str, text: str, k: int) -> dict[str, str]:
    return {path: text[:k] + str((int(text[k]) + 1) % 10) + text[k + 1 :]}


def test_a_damaged_table_is_rewritten_as_it_was(figures):
    tables, _ = figures
    texts = documents()
    damaged = {path: text.replace("|---|", "|-|") for path, text in texts.items()}
    assert rewrite(texts, tables) == texts
    assert rewrite(damaged, tables)["sim/README.md"] == texts["sim/README.md"] != damaged["sim/README.md"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_changed_digit_of_a_measured_figure_is_noticed(path, tmp_path):
    text = path.read_text()
    first = re.search(r'"rows": .*?\d', text, re.DOTALL)
    assert first and read_results(path)["rows"]
    k = first.end() - 1
    (tmp_path / path.name).write_text(text[:k] + str((int(text[k]) + 1) % 10) + text[k + 1 :])
    with pytest.raises(InputError, match="corrupted"):
        read_results(tmp_path / path.name)
