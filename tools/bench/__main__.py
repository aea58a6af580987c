"""Measures keras_models beside transformers, in one run: `python -m tools.bench forward`.

Every contestant is a process of its own with one backend and the same number of threads; they take turns, so that
whatever else the machine does hits all of them alike. Results are compared before anything is timed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tools.bench.tasks import MEASURES

ROOT = Path(__file__).resolve().parents[2]
CONTESTANTS = ("transformers", "jax", "torch", "tensorflow")


def interpreter(name: str, given: dict[str, str]) -> str:
    """The Python of a contestant: given, or of the environment that nox made."""
    session = "reference" if name == "transformers" else f"tests-{name}"
    path = Path(given.get(name, ROOT / ".nox" / session / "bin" / "python"))
    if not path.exists():
        raise SystemExit(f"No Python for {name} at {path}: run nox first, or give --python {name}=/path/to/python.")
    return str(path)


class Contestant:
    """A process that measures when asked."""

    def __init__(self, name: str, python: str, task: str, threads: int, folder: Path):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(threads),
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "",
        }
        if name != "transformers":
            environment["KERAS_BACKEND"] = name
        # XLA takes as many threads as the process may use cores.
        pin = ["taskset", "-c", ",".join(map(str, range(threads)))]
        self.name = name
        self.process = subprocess.Popen(
            [*pin, python, "-m", "tools.bench.tasks", name, task, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment, cwd=ROOT,
        )  # fmt: skip

    def ask(self, word: str) -> dict:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} died; run it by itself: python -m tools.bench.tasks {self.name} ...")
        return json.loads(answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=sorted(MEASURES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), help="contestants, transformers first")
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH")
    parser.add_argument("--work", type=Path, default=ROOT / ".references" / "bench")
    options = parser.parse_args()
    given = dict(each.split("=", 1) for each in options.python)
    pythons = {name: interpreter(name, given) for name in options.only}
    options.work.mkdir(parents=True, exist_ok=True)
    maker = given.get("transformers") or interpreter("transformers", given)
    subprocess.run([maker, "-m", "tools.bench.tasks", "make", options.task, str(options.work)], check=True, cwd=ROOT)

    if MEASURES[options.task].fresh_process:
        rounds = {name: [] for name in pythons}
        for _ in range(options.rounds):
            for name, python in pythons.items():
                runner = Contestant(name, python, options.task, options.threads, options.work)
                rounds[name].append(runner.ask("measure"))
                runner.process.kill()
    else:
        runners = [
            Contestant(name, python, options.task, options.threads, options.work) for name, python in pythons.items()
        ]
        first = {runner.name: runner.ask("measure") for runner in runners}  # one at a time: compiles, warms up
        for name, answer in first.items():
            print(f"{name}: first call {answer['first_s']:.2f} s", file=sys.stderr)
        rounds = {runner.name: [] for runner in runners}
        for _ in range(options.rounds):
            for runner in runners:
                rounds[runner.name].append(runner.ask("measure"))
    report(options, rounds)


def sgemm_peak() -> float:
    """GFLOP/s of the best of several large products by NumPy, on one core."""
    code = (
        "import time, numpy as np; x = np.ones((1024, 1024), 'f'); best = 9e9\n"
        "for _ in range(20): start = time.process_time(); x @ x; best = min(best, time.process_time() - start)\n"
        "print(2 * 1024**3 / best / 1e9)"
    )
    python = next(iter(ROOT.glob(".nox/tests-*/bin/python")), sys.executable)
    one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return float(subprocess.run([python, "-c", code], env=one, check=True, capture_output=True, text=True).stdout)


def bandwidth() -> float:
    """GB/s at which one core reads an array that fits into no cache."""
    code = (
        "import time, numpy as np; x = np.ones(2**27, 'f'); best = 9e9\n"
        "for _ in range(8): start = time.process_time(); x.dot(x); best = min(best, time.process_time() - start)\n"
        "print(x.nbytes / best / 1e9)"
    )
    python = next(iter(ROOT.glob(".nox/tests-*/bin/python")), sys.executable)
    one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return float(subprocess.run([python, "-c", code], env=one, check=True, capture_output=True, text=True).stdout)


def report(options, rounds):
    base = options.only[0]
    print(
        f"# one core multiplies float32 matrices at {sgemm_peak():.0f} GFLOP/s here, and reads {bandwidth():.1f} GB/s"
    )
    figures = [key for key in rounds[base][0] if key != "first_s"]
    print(
        f"# {options.task}, {options.threads} thread(s), median of {options.rounds} rounds; in brackets: {base} = 1.0"
    )
    for figure in figures:
        medians = {name: statistics.median(each[figure] for each in found) for name, found in rounds.items()}
        ratio = {
            name: value / medians[base] if figure.endswith("/s") or "GB/s" in figure else medians[base] / value
            for name, value in medians.items()
        }
        cells = [f"{name} {value:.4g} ({ratio[name]:.2f}x)" for name, value in medians.items()]
        print(f"{figure:>24}: " + "  ".join(cells))


if __name__ == "__main__":
    main()
