"""What a contestant does: `python -m tools.bench.tasks NAME TASK FOLDER`, then a word a line on standard input."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.bench import sound, vision

SHAPES = {"1x128": (1, 128), "8x128": (8, 128)}
FLOPS_PER_TOKEN = 2 * (85_054_464 + 590_592 / 128 + 12 * 2 * 128 * 768)  # BERT-base at length 128: products only


@dataclass
class Measure:
    make: Callable[[Path], None]  # in the reference environment: writes what the contestants load
    start: Callable[[str, Path], Callable[[], dict]]  # in a contestant: returns the function that measures once
    fresh_process: bool = False  # measure every time in a new process


def make_bert(folder: Path):
    """A BERT-base-sized checkpoint of random numbers, and what it computes."""
    if (folder / "bert" / "done").exists():
        return
    import numpy as np
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig()).eval()
    model.save_pretrained(folder / "bert")
    for name, shape in SHAPES.items():
        ids = np.random.default_rng(0).integers(0, 30522, shape)
        with torch.no_grad():
            hidden = model(torch.from_numpy(ids)).last_hidden_state.numpy()
        np.savez(folder / f"bert-{name}.npz", ids=ids, hidden=hidden)
    (folder / "bert" / "done").touch()


def load_bert(name: str, folder: Path) -> Callable:
    """A function from ids to hidden states, as a user of this contestant would call it."""
    if name == "transformers":
        import torch
        from transformers import BertModel

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        model = BertModel.from_pretrained(folder / "bert").eval()

        def run(ids):
            with torch.inference_mode():
                mask = torch.ones_like(torch.from_numpy(ids))
                return model(torch.from_numpy(ids), attention_mask=mask).last_hidden_state.numpy()

        return run
    import numpy as np

    from keras_models import BertModel

    model = BertModel.from_pretrained(folder / "bert")
    return lambda ids: model.infer(input_ids=ids, attention_mask=np.ones_like(ids)).last_hidden_state


def start_forward(name: str, folder: Path) -> Callable[[], dict]:
    import numpy as np

    run = load_bert(name, folder)
    inputs = {shape: dict(np.load(folder / f"bert-{shape}.npz")) for shape in SHAPES}
    start = time.perf_counter()
    for arrays in inputs.values():
        difference = np.abs(run(arrays["ids"]) - arrays["hidden"]).max()
        if difference > 1e-3:
            raise SystemExit(f"{name} computes something else: {difference}")
    first = time.perf_counter() - start

    def measure() -> dict:
        times = {"first_s": first}
        for shape, arrays in inputs.items():
            start, work = time.perf_counter(), time.process_time()
            run(arrays["ids"])
            times[f"{shape} s"] = time.perf_counter() - start
            times[f"{shape} CPU s"] = time.process_time() - work  # steadier on a machine that does other things too
            times[f"{shape} GFLOP/s"] = FLOPS_PER_TOKEN * arrays["ids"].size / times[f"{shape} CPU s"] / 1e9
        return times

    return measure


def start_load(name: str, folder: Path) -> Callable[[], dict]:
    """Seconds from a warm import to the first output; peak memory above the import's, in multiples of the weights."""
    import numpy as np

    if name == "transformers":
        import transformers

        _ = transformers.BertModel
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    else:
        import keras_models

        _ = keras_models.BertModel

    def measure() -> dict:
        ids = np.load(folder / "bert-1x128.npz")["ids"]
        weights = (folder / "bert" / "model.safetensors").stat().st_size
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        start = time.perf_counter()
        run = load_bert(name, folder)
        loaded = time.perf_counter() - start
        after_load = _memory("VmHWM")
        run(ids)
        return {
            "load s": loaded,
            "first output s": time.perf_counter() - start,
            "from process start s": time.time() - _process_start(),
            "load peak / weights": (after_load - before) / weights,
            "peak / weights": (_memory("VmHWM") - before) / weights,
        }

    return measure


def _process_start() -> float:
    """When this process began, imports included, in seconds since the epoch."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def start_import(name: str, folder: Path) -> Callable[[], dict]:
    """Seconds that `import keras_models` adds to `import keras`; for transformers, its own import."""

    def measure() -> dict:
        if name != "transformers":
            import keras  # noqa: F401 - its time is not ours
        start = time.perf_counter()
        __import__("transformers" if name == "transformers" else "keras_models")
        return {"import s": time.perf_counter() - start}

    return measure


GENERATE = {  # name -> (batch, prompt length, new tokens, settings of generate)
    "1x16+128": (1, 16, 128, {}),
    "8x16+128": (8, 16, 128, {}),
    "1x23+121": (1, 23, 121, {}),
    "beam 4": (1, 16, 64, {"num_beams": 4}),
    "sample": (1, 16, 128, {"do_sample": True, "top_k": 50, "top_p": 0.95}),
}
GPT2_BYTES = 4 * (124_439_808 - 1024 * 768)  # what a step reads: all weights but the positions


def make_gpt2(folder: Path):
    """A GPT-2-small-sized checkpoint of random numbers, and what it continues prompts with."""
    if (folder / "gpt2" / "done").exists():
        return
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(initializer_range=0.05, bos_token_id=None, eos_token_id=None)).eval()
    model.save_pretrained(folder / "gpt2")
    for name, (batch, length, new, settings) in GENERATE.items():
        ids = np.random.default_rng(0).integers(0, 50257, (batch, length))
        tokens = ids
        if "do_sample" not in settings:
            options = {"max_new_tokens": new, "pad_token_id": 0, **settings}
            tokens = model.generate(torch.from_numpy(ids), attention_mask=torch.ones(ids.shape), **options).numpy()
        np.savez(folder / f"gpt2-{name}.npz", ids=ids, tokens=tokens)
    (folder / "gpt2" / "done").touch()


def load_gpt2(name: str, folder: Path) -> Callable:
    """A function from prompts to tokens, as a user of this contestant would call it."""
    if name == "transformers":
        import torch
        from transformers import GPT2LMHeadModel

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        model = GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()

        def run(ids, **settings):
            ids = torch.from_numpy(ids)
            return model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **settings).numpy()

        return run
    from keras_models import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder / "gpt2")
    return lambda ids, **settings: model.generate(ids, pad_token_id=0, **settings)


def start_generate(name: str, folder: Path) -> Callable[[], dict]:
    import numpy as np

    run = load_gpt2(name, folder)
    files = {key: dict(np.load(folder / f"gpt2-{key}.npz")) for key in GENERATE}
    first = {}
    for key, (_, _, new, settings) in GENERATE.items():
        start = time.perf_counter()
        tokens = run(files[key]["ids"], max_new_tokens=new, **settings)
        first[f"{key} first call s"] = time.perf_counter() - start
        if "do_sample" not in settings and not np.array_equal(tokens, files[key]["tokens"]):
            raise SystemExit(f"{name} writes something else for {key}")

    def measure() -> dict:
        times = {"first_s": sum(first.values()), **first}
        for key, (batch, _, new, settings) in GENERATE.items():
            start, work = time.perf_counter(), time.process_time()
            run(files[key]["ids"], max_new_tokens=new, **settings)
            times[f"{key} s"] = time.perf_counter() - start
            times[f"{key} CPU s"] = time.process_time() - work
            times[f"{key} tokens/s"] = batch * new / times[f"{key} s"]
            times[f"{key} GB/s of weights"] = GPT2_BYTES * new / times[f"{key} s"] / 1e9
        return times

    return measure


MEASURES = {
    **{task: Measure(vision.make(task), vision.start(task)) for task in vision.MODELS},
    **{task: Measure(sound.make(task), sound.start(task)) for task in sound.MODELS},
    "features": Measure(lambda folder: None, sound.start_features),
    "photos": Measure(vision.make_photos, vision.start_photos),
    "generate": Measure(make_gpt2, start_generate),
    "forward": Measure(make_bert, start_forward),
    "load": Measure(make_bert, start_load, fresh_process=True),
    "import": Measure(lambda folder: None, start_import, fresh_process=True),
}


def main():
    name, task, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if name == "make":
        MEASURES[task].make(folder)
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    measure = MEASURES[task].start(name, folder)
    for _ in sys.stdin:
        answers.write(json.dumps(measure()) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
