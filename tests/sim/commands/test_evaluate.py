"""`python -m sim evaluate`: the command that a file of results names."""

import argparse

import pytest

from sim.commands.evaluate import add_evaluations, command


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sentence", "sentence"),
        ("four-bits --sentences 64 --resume --run build/x", "four-bits --sentences 64"),
        ("vision --quick --seeds 0 1 -o results", "vision --quick --seeds 0 1"),
        ("language --no-rotation --model models/small", "language --model small --no-rotation"),
        ("sentence --jobs 2 --granularity tensor --json", "sentence --granularity tensor"),
    ],
)
def test_the_command_of_a_result_has_every_option_that_decides_it_and_no_path(given, said):
    parser = argparse.ArgumentParser()
    add_evaluations(parser.add_subparsers())
    assert command(parser.parse_args(["evaluate", *given.split()])) == f"python -m sim evaluate {said}"
