"""A checkpoint folder to a packed folder: the long job behind `python -m quant quantize`, in a run directory."""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from quant import calibration
from quant.exchange import copy_companions
from quant.formats.checkpoint import DTYPES, Checkpoint, load_model
from quant.formats.gguf_file import origin_line
from quant.gguf_folder import save_tokeniser
from quant.methods.coverage import coverage_line, size_line
from quant.methods.layers import quantisable, unfolded
from quant.methods.post_training import ATTRIBUTE, CALIBRATION, Job, advice, quantisation_of, quantize
from quant.plan import Plan
from quant.pretrained import write_model
from quant.run_directory import RunDirectory
from sim.common.errors import require_range
from sim.common.files import locked, require_other
from sim.reference import InputError

RUN = "run"  # the run directory in the packed folder


@dataclass(frozen=True)
class Execution:
    """On what a job runs, and in which number format.

    Parameters
    ----------
    device : str
        A name that torch knows: "cpu", "cuda", "cuda:1".
    dtype : str
        Format of what stays floating point: float32, bfloat16, float16, or auto: that of the files.
    threads : int, optional
        Threads of the processor; by default torch's choice.

    Raises
    ------
    InputError
        If dtype is unknown or threads is not in 1..1024.
    """

    device: str = "cpu"
    dtype: str = "float32"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (*DTYPES, "auto"):
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}, auto, not {self.dtype!r}")
        if self.threads is not None:
            require_range("threads", self.threads, 1, 1024)


def quantize_folder(
    checkpoint: str | Path,
    output: str | Path,
    plan: Plan,
    data: Any = None,
    sampling: calibration.Sampling | None = None,
    *,
    execution: Execution | None = None,
    resume: bool = False,
) -> list[Mapping[str, Any]]:
    """Quantise a checkpoint folder into another folder.

    An interrupted run leaves what it finished in `output`/run. Coverage, sizes, and the names in the files that the
    model does not use are printed on stderr.

    Parameters
    ----------
    checkpoint : str or Path
        Folder with config.json and safetensors or PyTorch files, or a GGUF file.
    output : str or Path
        The packed folder to write.
    plan : Plan
        Which layer is quantised how.
    data : optional
        Calibration data, as `quant.calibration.load` takes them; text is tokenised with the folder's own tokeniser.
    sampling : Sampling, optional
        How many of the data are used, and in what batches.
    execution : Execution, optional
        Device, number format and threads.
    resume : bool
        Continue an interrupted run; plan, data, checkpoint, device and dtype must be the same.

    Returns
    -------
    list
        A row for each quantised layer.

    Raises
    ------
    InputError
        One line for each mistake of the user; see `quantize`, `load_model` and `calibration.load`.
    """
    return FolderJob(
        Path(checkpoint), Path(output), data, sampling or calibration.Sampling(), execution or Execution(), resume
    ).run(
        lambda model, loaded, job: quantize(model, plan, loaded, inplace=True, job=job),
        {"plan": plan.to_dict(), "plan_sha256": plan.digest},
        lambda model, batches: layer_units(model, plan, batches),
    )


def layer_units(model: nn.Module, plan: Plan, batches: int) -> int:
    """Units of work of `quantize`: the layers of an unfolded model, and the batches where scales are static."""
    chosen = [settings for settings in plan.resolve(quantisable(model)).values() if not settings.skip]
    static = any(s.activation_bits and s.activation_granularity == "tensor" for s in chosen)
    return len(chosen) + (batches if static else 0)


Quantise = Callable[[nn.Module, calibration.CalibrationData | None, Job], nn.Module]


@dataclass(frozen=True, eq=False)
class FolderJob:
    """From a checkpoint folder to a packed folder, whatever quantises the model; see `quantize_folder`."""

    checkpoint: Path
    output: Path
    data: Any = None
    sampling: calibration.Sampling = field(default_factory=calibration.Sampling)
    execution: Execution = field(default_factory=Execution)
    resume: bool = False

    def run(
        self, quantise: Quantise, options: Mapping[str, Any], units: Callable[[nn.Module, int], int]
    ) -> list[Mapping[str, Any]]:
        """Load model and data, quantise, write.

        Parameters
        ----------
        quantise : callable
            Makes the quantised model of a model, which it may change, the data and a job.
        options : mapping
            In JSON's types: what `quantise` does. A run is resumed only if they are the same.
        units : callable
            How many units of work an unfolded model and a number of batches are.

        Returns
        -------
        list
            A row for each quantised layer.
        """
        require_other(self.checkpoint, self.output)
        execution, existed = self.execution, self.output.exists()
        if execution.threads is not None:
            torch.set_num_threads(execution.threads)
        target = device_of(execution.device)
        tokeniser = LateTokeniser(self.checkpoint, None if self.sampling.pack else self.sampling.sequence_length)
        loaded = None if self.data is None else calibration.load(self.data, self.sampling, tokeniser)
        model, unused = load_model(self.checkpoint, execution.dtype, target)
        if unused:
            names = ", ".join(unused[:4])
            print(f"{self.checkpoint}: {len(unused)} tensors are not used by the model: {names}", file=sys.stderr)
        if loaded is not None:
            calibration.require_fitting(model, loaded, str(self.data))
        configuration = {
            **options,
            "data_sha256": None if loaded is None else loaded.digest,
            "dtype": execution.dtype,
            "device": target.type,
            "checkpoint_sha256": calibration.digest([model.state_dict()]),
        }
        try:
            with locked(self.output), RunDirectory.open(self.output / RUN, configuration, self.resume) as run:
                count = units(unfolded(model), len(loaded or ()))
                return self._write(quantise, model, loaded, run, count)
        except InputError:
            if not existed and not any((self.output / RUN / "units").glob("*.json")):  # nothing to resume
                shutil.rmtree(self.output, ignore_errors=True)
            raise

    def _write(
        self, quantise: Quantise, model: nn.Module, data: calibration.CalibrationData | None, run: RunDirectory,
        count: int,
    ) -> list[Mapping[str, Any]]:  # fmt: skip
        """Quantise a model of `count` units of work and save it."""
        with tqdm(total=count, unit="unit", file=sys.stderr, disable=None) as bar:

            def progress(unit: str) -> None:
                bar.set_postfix_str(unit if unit == CALIBRATION else unit[-40:], refresh=False)
                bar.update()

            made = quantise(model, data, Job(run, progress))
        done = quantisation_of(made)
        source = self.checkpoint
        size = source.stat().st_size if source.is_file() else Checkpoint.open(source).size
        done = replace(done, coverage={**done.coverage, "bytes_before": size})
        setattr(made, ATTRIBUTE, done)
        write_model(made, self.output)
        if source.suffix == ".gguf":
            save_tokeniser(source, self.output)
        else:
            copy_companions(source, self.output)
        run.clear()
        origin = origin_line(getattr(made, "config", None))
        for line in (coverage_line(done.coverage), size_line(done.coverage), origin, advice(done.rows)):
            if line is not None:
                print(line, file=sys.stderr)
        return list(done.rows)


class LateTokeniser:
    """The folder's tokeniser, read when the first text comes."""

    def __init__(self, folder: str | Path, sequence_length: int | None) -> None:
        self.folder, self.sequence_length = folder, sequence_length
        self._made: calibration.Tokeniser | None = None

    def __call__(self, text: str) -> Any:
        if self._made is None:
            self._made = calibration.tokeniser_of(self.folder, self.sequence_length)
        return self._made(text)


def device_of(name: str) -> torch.device:
    """The device of a name. Raises `InputError` if torch has none of that name here."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device must be a device that torch has here, not {name!r} ({str(error).splitlines()[0]})"
        ) from None
    return device
