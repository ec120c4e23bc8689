"""The console script: `bitwright fit ...` is `python -m ga_search ...`, and so on for each package."""

import importlib
import sys

# subcommand -> (module with main(argv) -> int, what it does)
COMMANDS = {
    "fit": ("ga_search.cli", "fit integer piecewise-linear tables"),
    "quant": ("quant.cli", "quantise PyTorch models, pack them, and exchange GPTQ checkpoints"),
    "rtl": ("rtl.cli", "emit the Verilog of a unit"),
    "sim": ("sim.cli", "write vectors and check units against them in two simulators"),
    "cost": ("cost_model.cli", "area and power of a unit, and where they come from"),
}


def main() -> int:
    """Hand the arguments to a package's command; exit code 2 for an unknown one."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: bitwright COMMAND [ARGUMENTS]\n")
        print("\n".join(f"  {command:<6} {text}" for command, (_, text) in COMMANDS.items()))
        print("\nbitwright COMMAND --help tells more.")
        return 0
    if name not in COMMANDS:
        print(f"bitwright: command must be one of {', '.join(COMMANDS)}, not {name!r}", file=sys.stderr)
        return 2
    sys.path.insert(0, "")  # as `python -m` does, so that a user's own module is found
    return importlib.import_module(COMMANDS[name][0]).main(sys.argv[2:])
