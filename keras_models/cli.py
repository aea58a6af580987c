"""The command line: `keras-models run | chat | list | info | convert`.

Of the library nothing is imported before a command needs it: help and lists come at once, and `--backend` is in time.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from typer.core import TyperGroup

from keras_models.cli_files import Live, files_in, plain, save_result, transcribe_live
from keras_models.console import show_result, show_rows, tell
from keras_models.registry import AUDIO_SUFFIXES, PICTURE_SUFFIXES


class Backend(StrEnum):
    """What Keras can run on."""

    JAX = "jax"
    TORCH = "torch"
    TENSORFLOW = "tensorflow"


class Topic(StrEnum):
    """What can be listed."""

    TASKS = "tasks"
    ARCHITECTURES = "architectures"
    PRESETS = "presets"


class Float(StrEnum):
    """What weights can be converted to."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class Transcript(StrEnum):
    """What speech can be written as."""

    SRT = "srt"
    VTT = "vtt"
    TXT = "txt"
    JSON = "json"


class Commands(TyperGroup):
    """Tells of the library's errors and warnings in one line of stderr each."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; exit codes are 1 for an error of the library and 2 for one in the arguments."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if ctx.params["debug"]:
            return super().invoke(ctx)
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: tell(f"warning: {message}", "dim")
            try:
                return super().invoke(ctx)
            except BrokenPipeError:  # whoever reads our output has had enough of it, and typer ends in silence
                raise
            except (ValueError, TypeError, OSError, ImportError) as error:
                tell(f"error: {_reason(error)}", "red")
                raise typer.Exit(1) from error


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)
Model = Annotated[str, typer.Argument(help="A folder, a hub id or preset:NAME.", show_default=False)]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use only what has been downloaded before.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
On = Annotated[Backend | None, typer.Option("--backend", help="What Keras runs on, whatever KERAS_BACKEND says.")]
Dtype = Annotated[str | None, typer.Option(help="Of weights and computation: float16, bfloat16, auto ...")]

_SUFFIXES = {"image_processor": PICTURE_SUFFIXES, "feature_extractor": AUDIO_SUFFIXES}  # by what a pipeline needs
_CHUNKS = ("chunk_length_s", "stream_chunk_s", "stride_length_s")
CHAT_COMMANDS = {
    "/help": "Show this.",
    "/system TEXT": "Tell the model something else before all turns; without TEXT, nothing.",
    "/set NAME=VALUE": "Change a setting of generate, JSON or a string; without NAME=VALUE, show them.",
    "/undo": "Take the last turn back.",
    "/reset": "Forget all turns.",
    "/save FILE": "Write the messages as JSON.",
    "/exit": "End the chat, as Ctrl-D does. Ctrl-C ends a reply.",
    '"""': "Begins and ends a turn of several lines.",
    "//": "Begins a turn whose text begins with /.",
}


def main():
    """Runs the command line."""
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8")
    app(prog_name="keras-models")


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", envvar="KERAS_MODELS_DEBUG", help="Show tracebacks.")] = False,
):
    """Hugging Face's models on Keras, with JAX, PyTorch or TensorFlow."""


@app.command()
def run(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to do; see: keras-models list tasks.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT", show_default=False,
            help="Texts; pictures and sounds, by path, address or folder; JSON objects for inputs of several parts; "
            "@FILE for inputs in a file; - for the lines of standard input, as without any INPUT. A text that begins "
            "with @ is written with @@.",
        ),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--file", "-f", exists=True, dir_okay=False,
            help="Inputs: a picture or sound; .json with a list, .jsonl with a value a line, all else with a text a "
            "line. Blank lines do not count.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A folder, a hub id or preset:NAME; by default the task's own.")
    ] = None,
    backend: On = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each input.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Draw results on pictures, or write speech down (out.srt), into this file, or this "
            "folder for several."
        ),
    ] = None,
    form: Annotated[
        Transcript | None, typer.Option("--format", help="Print speech as subtitles, as text alone or as JSON.")
    ] = None,
    live: Annotated[
        Live | None,
        typer.Option(
            help="Write down speech while it is spoken: to the microphone, or as samples of 16-bit integers or 32-bit "
            "floats on standard input, of one channel at the model's sampling rate."
        ),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print text while it is being written.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="How many rows the model takes at once.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="How many results to show for an input.")] = None,
    candidate_labels: Annotated[str | None, typer.Option(help="Labels to choose from: a,b,c")] = None,
    question: Annotated[str | None, typer.Option(help="About all inputs, which are contexts then.")] = None,
    context: Annotated[str | None, typer.Option(help="Of all inputs, which are questions then.")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="Another option of the pipeline, JSON or a string."),
    ] = None,
    dtype: Dtype = None,
    revision: Revision = None,
    offline: Offline = False,
):  # fmt: skip
    """Run a task on texts, files or the lines of standard input. Results come as soon as they are there."""
    if backend is not None:
        _choose(backend)
    parts = _given(question=question, context=context)
    sources = [_of_file(path) for path in files or ()] + [_of_argument(text) for text in inputs or ()]
    if not sources and len(parts) == 2:
        sources = [[{}]]
    elif not sources and not live and sys.stdin.isatty():
        raise typer.BadParameter("there is no text, @FILE, --file or standard input", param_hint="INPUT")
    settings = _given(model=model, batch_size=batch_size, top_k=top_k, dtype=dtype, revision=revision)
    settings |= _given(candidate_labels=candidate_labels) | dict(map(_option, options or ()))
    if offline:
        settings["model_kwargs"] = {**settings.get("model_kwargs", {}), "local_files_only": True}
    _start_keras()
    from keras_models.pipelines import pipeline

    if stream:
        _check_stream(task, settings, as_json)
    pieces = {name: settings.pop(name) for name in _CHUNKS if live and name in settings}
    pipe = pipeline(task, **settings)
    suffixes = next((own for part, own in _SUFFIXES.items() if part in pipe.parts), ())
    if save is not None and not suffixes:
        raise typer.BadParameter(f"{task} takes no pictures to draw on", param_hint="--save")
    is_speech = hasattr(pipe, "stamps")
    if not is_speech and (form or live):
        raise typer.BadParameter(f"{task} takes no speech", param_hint="--format" if form else "--live")
    call = {}
    if form in (Transcript.SRT, Transcript.VTT) or (save and save.suffix in (".srt", ".vtt")):
        call["return_timestamps"] = settings.get("return_timestamps") or (True if True in pipe.stamps else "word")
    if live is not None:
        transcribe_live(pipe, live, pieces, call, as_json)
        return
    streamer = _streamer(pipe) if stream else None
    waiting: deque[Any] = deque()  # inputs whose results are still to come

    def items() -> Iterator[Any]:
        given = chain.from_iterable(sources or [_of_argument("-")])
        for item in chain.from_iterable(files_in(each, suffixes) for each in given) if suffixes else given:
            waiting.append(_completed(item, parts))
            if streamer is not None:  # results begin with a prompt, but that of a chat is no plain text
                streamer.skip_prompt = not (isinstance(item, str) and settings.get("return_full_text", True))
            yield waiting[-1]

    for number, result in enumerate(pipe(items(), **_given(streamer=streamer), **call)):
        item = waiting.popleft()
        if save is not None:
            tell(f"written: {save_result(result, item, number, save, form or 'png')}", "dim")
        if streamer is not None:
            continue
        if form is not None:
            print(result.to_format(form), end="", flush=True)
        elif as_json:
            print(json.dumps(result, ensure_ascii=False, default=plain), flush=True)
        else:
            show_result(item, result)


@app.command()
def chat(
    context: typer.Context,
    model: Model,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="What the model is told before all turns.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Of a reply; 512 if the model says none.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="Turns sampling on, and with 0 off.")] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Sample from the likeliest tokens that have this probability.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=0, help="Sample from so many of the likeliest tokens.")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Take the likeliest token, without sampling.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of sampling: the same chat again.")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="Another setting of generate, JSON or a string."),
    ] = None,
    no_template: Annotated[
        bool, typer.Option("--no-template", help="Continue plain text, with a model that is not made for chats.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each turn.")] = False,
    backend: On = None,
    dtype: Dtype = None,
    revision: Revision = None,
    offline: Offline = False,
):  # fmt: skip
    """Talk with a model. Turns are typed, or the lines of standard input; then nothing but the replies is printed.

    Sampling and other settings are the model's own unless given. /help lists what else can be typed.
    """
    if backend is not None:
        _choose(backend)
    settings = _given(temperature=temperature, top_p=top_p, top_k=top_k)
    if greedy and settings:
        raise typer.BadParameter(f"it leaves no use for {', '.join(settings)}: drop that", param_hint="--greedy")
    settings |= {"do_sample": False} if greedy else {}
    settings |= _given(max_new_tokens=max_new_tokens, seed=seed) | dict(map(_option, options or ()))
    _start_keras()
    from keras_models import AutoModelForCausalLM, AutoTokenizer
    from keras_models.chat import Chat

    folder, hub = _located(model), {"local_files_only": offline, **_given(revision=revision)}
    tokenizer = AutoTokenizer.from_pretrained(folder, **hub)
    if tokenizer.chat_template is None and not no_template:
        raise ValueError(f"{model} has no chat template: with --no-template it continues plain text instead.")
    network = AutoModelForCausalLM.from_pretrained(folder, **hub, **_given(dtype=dtype))
    talk = Chat(network, tokenizer, system, template=not no_template, **settings)
    if not _converse(talk, as_json, context.parent.params["debug"]):
        raise typer.Exit(1)


@app.command("list")
def list_(
    topic: Annotated[Topic | None, typer.Argument(help="Everything by default.", show_default=False)] = None,
    as_json: Json = False,
):
    """List tasks with their default models, architectures with their classes, and packaged presets."""
    from keras_models import describe

    lists = {Topic.TASKS: describe.tasks, Topic.ARCHITECTURES: describe.architectures, Topic.PRESETS: describe.presets}
    found = {str(each): rows() for each, rows in lists.items() if topic in (None, each)}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for title, rows in found.items():
        show_rows(rows or [{"": "none"}], title)


@app.command()
def info(model: Model, as_json: Json = False, revision: Revision = None, offline: Offline = False):
    """Tell what a model is, by its files and the headers of its weights; one on the hub is downloaded for it."""
    from keras_models.describe import describe

    facts = describe(_located(model), revision=revision, local_files_only=offline)
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    labels = facts["labels"] or []
    facts["labels"] = [*labels[:10], f"... {len(labels)} in all"] if len(labels) > 12 else labels or None
    facts["class"] = facts["class"] or "none in keras_models"
    facts["parameters"] = f"{facts['parameters']:,}"
    facts["dtypes"] = [f"{count:,} {dtype}" for dtype, count in facts["dtypes"].items()]
    facts["files"] = [f"{name} ({decimal(size)})" for name, size in facts["files"].items()]
    facts["size"] = decimal(facts["size"])
    show_rows([{"": name.replace("_", " "), " ": value} for name, value in facts.items() if value is not None])


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A folder or a hub id.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write to.", show_default=False)],
    dtype: Annotated[Float | None, typer.Option(help="Of the weights; by default they keep their own.")] = None,
    max_shard_size: Annotated[str, typer.Option(help="Larger weights are split into files of this size.")] = "5GB",
    revision: Revision = None,
    offline: Offline = False,
):
    """Write a model as safetensors in the hub's layout, with its configuration and tokenizer or preprocessor files.

    Reads safetensors, PyTorch .bin, TensorFlow .h5 and Flax .msgpack, in one piece or in shards. If keras_models has
    the architecture, tensors get the names they have today. If not, or if some would get lost, each is copied under
    the name it has; of an architecture that keras_models lacks, only safetensors and .bin can be converted.
    """
    _start_keras()
    from keras_models import convert as library
    from keras_models.describe import describe

    hub = {"revision": revision, "local_files_only": offline}
    name = library.convert(_located(source), folder, dtype=dtype, max_shard_size=max_shard_size, **hub)
    facts = describe(folder)
    how = f"as {name}" if name else "each under its own name"
    print(f"{folder}: {facts['tensors']} tensors, {how}; {facts['parameters']:,} parameters, {decimal(facts['size'])}")


def _check_stream(task: str, settings: dict[str, Any], as_json: bool):
    """Refuses what cannot be printed as it comes, and has models follow one text instead of several beams."""
    from keras_models.pipelines import find_task

    against = ["--json"] * as_json
    against += [name for name in ("batch_size", "num_beams", "num_return_sequences") if settings.get(name, 1) != 1]
    if find_task(task).auto not in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM"):
        raise typer.BadParameter(f"{task} writes no text", param_hint="--stream")
    if against:
        raise typer.BadParameter(f"it prints one text word by word: drop {', '.join(against)}", param_hint="--stream")
    settings["num_beams"] = 1


def _streamer(pipe: Any) -> Any:
    from keras_models.generation.streamers import TextStreamer

    return TextStreamer(pipe.tokenizer, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _converse(talk: Any, as_json: bool, debug: bool) -> bool:
    """Answers what is typed, or else the lines of standard input; returns whether none of the latter failed."""
    at_terminal, failed = sys.stdin.isatty(), False
    for line in _typed() if at_terminal else _lines(sys.stdin, "standard input", lambda text, where: text):
        if line.strip() == "/exit":
            break
        try:
            if line.startswith("/") and not line.startswith("//"):
                answer = _obey(talk, line.strip())
                if at_terminal:
                    tell(answer, "dim") if isinstance(answer, str) else show_rows(answer)
            else:
                _show_reply(talk, line.removeprefix("/"), as_json)
                if at_terminal and talk.finish_reason == "length":
                    tell("The reply is cut off: /set max_new_tokens=1000 or the like makes room for more.", "dim")
        except KeyboardInterrupt:
            if not at_terminal:
                raise
            print()
        except (ValueError, TypeError, OSError, typer.BadParameter) as error:
            if debug or isinstance(error, BrokenPipeError):
                raise
            failed = not at_terminal
            tell(f"error: {_reason(error)}", "red")
            if as_json:
                print(json.dumps({"error": _reason(error)}, ensure_ascii=False), flush=True)
    return not failed


def _typed() -> Iterator[str]:
    """What is typed at the terminal until Ctrl-D, blank lines aside."""
    with suppress(ImportError):  # not on Windows
        import_module("readline")  # lets lines be edited, and found again
    tell("/help lists commands, Ctrl-D ends the chat.", "dim")
    while True:
        try:
            text = input("> ")
            if text.startswith('"""'):
                text = text[3:]
                while not text.endswith('"""'):
                    text += "\n" + input(". ")
                text = text[:-3]
        except KeyboardInterrupt:
            tell("Ctrl-D ends the chat.", "dim")
            continue
        except EOFError:
            print()
            return
        if text.strip():
            yield text


def _show_reply(talk: Any, text: str, as_json: bool):
    with closing(talk.say(text)) as pieces:
        for piece in pieces:
            if not as_json:
                print(piece, end="", flush=True)
    if as_json:
        print(json.dumps({**talk.messages[-1], "finish_reason": talk.finish_reason}, ensure_ascii=False), flush=True)
    else:
        print(flush=True)


def _obey(talk: Any, line: str) -> str | list[dict[str, Any]]:
    """Does what a line with a slash says; returns what to show of it, a message or rows of a table."""
    from keras_models.config import nearest

    name, _, rest = line.partition(" ")
    rest = rest.strip()
    match name:
        case "/help":
            return [{"": each, " ": text} for each, text in CHAT_COMMANDS.items()]
        case "/system":
            talk.system = rest or None
            return "The system's message has changed." if rest else "There is no system's message."
        case "/set" if rest:
            talk.set(**dict([_option(rest)]))
            return "It holds from the next reply on."
        case "/set":
            settings = {**talk.model.generation_config.to_dict(), **talk.settings}
            settings.pop("transformers_version", None)
            return [{"": each, " ": json.dumps(value)} for each, value in settings.items()] or "All are the defaults."
        case "/undo":
            talk.undo()
            return "The last turn is taken back."
        case "/reset":
            talk.reset()
            return "All turns are forgotten."
        case "/save" if rest:
            Path(rest).expanduser().write_text(json.dumps(talk.messages, indent=2, ensure_ascii=False) + "\n", "utf-8")
            return f"{len(talk.messages)} messages are in {rest}."
        case "/save":
            raise ValueError("/save needs the name of a file.")
    known = [each.split()[0] for each in CHAT_COMMANDS]
    raise ValueError(f"There is no command {name}; a text is written /{line}.{nearest(name, known)}")


def _start_keras():
    """Imports Keras and its backend without what native libraries print then; TensorFlow has no switch for that."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import_module("keras")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _choose(backend: Backend):
    if find_spec(backend) is None:
        raise ImportError(_not_installed(backend))
    os.environ["KERAS_BACKEND"] = backend


def _located(model: str) -> str:
    """The folder of a preset; a folder or hub id as it is."""
    if not model.startswith("preset:"):
        return model
    _start_keras()
    from keras_models.pipelines.presets import locate

    return str(locate(model))


def _of_argument(text: str) -> Iterable[Any]:
    """The inputs that one argument stands for."""
    if text == "-":
        return _lines(sys.stdin, "standard input", _object_or_text)
    if text.startswith("@") and not text.startswith("@@"):
        path = Path(text[1:])
        if not path.is_file():
            raise typer.BadParameter(f"there is no file {path}; a text that begins with @ is written @{text}")
        return _of_file(path)
    return [_object_or_text(text.removeprefix("@"), "")]


def _of_file(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as stream:
        if path.suffix.lower() in (*PICTURE_SUFFIXES, *AUDIO_SUFFIXES):
            yield str(path)
        elif path.suffix == ".json":
            content = _from_json(stream.read(), str(path))
            yield from content if isinstance(content, list) else [content]
        else:
            yield from _lines(stream, str(path), _from_json if path.suffix == ".jsonl" else lambda text, where: text)


def _lines(stream: Iterable[str], name: str, parse: Callable[[str, str], Any]) -> Iterator[Any]:
    """What `parse` makes of the lines that are not blank."""
    try:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield parse(line.rstrip("\r\n"), f"line {number} of {name}")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text ({error}): write it anew with that encoding.") from error


def _from_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where} is not JSON ({error}): correct it, or call the file .txt if it holds texts."
        ) from error


def _object_or_text(text: str, where: str) -> Any:
    try:
        return json.loads(text) if text.lstrip().startswith("{") else text
    except json.JSONDecodeError:
        return text


def _completed(item: Any, parts: dict[str, str]) -> Any:
    """An input with what --question or --context adds to it."""
    if not parts or isinstance(item, dict):
        return {**parts, **item} if parts else item
    if len(parts) == 2:
        raise ValueError(f"--question and --context leave nothing for {item!r} to be: drop one of the three.")
    return {name: parts.get(name, item) for name in ("question", "context")}


def _option(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given:
        raise typer.BadParameter(f"{text!r} must have the form NAME=VALUE", param_hint="--option")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in list(Backend):
        return _not_installed(error.name)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error).replace("local_files_only=True", "--offline") or type(error).__name__


def _not_installed(backend: str) -> str:
    others = [name for name in Backend if find_spec(name)]
    instead = f", or choose with --backend or KERAS_BACKEND what is: {', '.join(others)}" if others else ""
    return f"{backend} is not installed: install it with `pip install -e '.[{backend}]'` in the clone{instead}."
