"""The console script: `bitwright fit ...` is `python -m ga_search ...`, and so on for each package."""

import sys
from importlib import metadata

from sim.common.command import run, start
from sim.common.errors import InputError

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
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in COMMANDS:
        return start(COMMANDS[name][0], arguments)
    return run(lambda argv: _about(name))


def _about(name: str) -> int:
    if name == "--version":
        print(f"bitwright {metadata.version('bitwright')}")
    elif name in ("-h", "--help"):
        print("usage: bitwright COMMAND [ARGUMENTS]\n       bitwright --version\n")
        print("\n".join(f"  {command:<6} {text}" for command, (_, text) in COMMANDS.items()))
        print("\nFor the options of a command: bitwright COMMAND --help")
    else:
        raise InputError(f"command must be one of {', '.join(COMMANDS)}, not {name!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
