"""Downloads and pushes with the real huggingface_hub client, against a hub of our own on loopback.

The client reads its settings when it is imported, so it runs in a process of its own, where the tests call functions.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keras_models.hub import HubError, Repository, push_folder, push_saved, split_options
from tests.hub_server import HubServer

MODEL, GATED, SHARDED = "tester/model", "meta/gated", "tester/sharded"
CONFIG = b'{"model_type": "bert"}'
WEIGHTS = bytes(range(256)) * 2000
SHARDS = {f"model-0000{i}-of-00003.safetensors": bytes([i]) * 5000 for i in (1, 2, 3)}
INDEX = json.dumps({"weight_map": {f"layer.{name}": name for name in SHARDS}})

Client = Callable[..., Any]

# The functions below run in the client's process.


def _prepare(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    time.sleep = lambda _: None  # the client's retries need not wait


def _read(source: str, *names: str, **options: Any) -> list[bytes | None]:
    """The contents of files of one repository, None for those it does not have."""
    repository = Repository(source, **options)
    paths = [repository.file(name) for name in names]
    return [path and path.read_bytes() for path in paths]


def _read_stubbornly(source: str, *names: str, **options: Any) -> list[bytes | None]:
    """As a user does who tries again, for clients that do not by themselves."""
    try:
        return _read(source, *names, **options)
    except HubError:
        return _read(source, *names, **options)


def _require(source: str, name: str, **options: Any) -> Path | None:
    return Repository(source, **options).file(name, required=True)


def _read_shards(source: str, **options: Any) -> list[bytes]:
    repository = Repository(source, **options)
    index = json.loads(repository.file("model.safetensors.index.json", required=True).read_bytes())
    return [path.read_bytes() for path in repository.files(index["weight_map"].values())]


def _read_with_token(token: str, source: str, *names: str, **options: Any) -> list[bytes | None]:
    os.environ["HF_TOKEN"] = token
    try:
        return _read(source, *names, **options)
    finally:
        os.environ["HF_TOKEN"] = ""


def _read_around(change: Path, source: str, *names: str, **options: Any) -> list[bytes]:
    """The contents of files, the first of them read before and the others after the file `change` was written to."""
    repository = Repository(source, **options)
    first = repository.file(names[0]).read_bytes()
    change.write_bytes(b"from a later commit")
    return [first, *(repository.file(name).read_bytes() for name in names[1:])]


def _read_noting_warnings(source: str, *names: str, **options: Any) -> tuple[list[bytes | None], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return _read(source, *names, **options), [str(warning.message) for warning in caught]


def _snapshot(repo_id: str, **options: Any) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(repo_id, **options)


def _describe(source: str, **options: Any) -> str:
    return str(Repository(source, **options))


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        folder.joinpath(name).write_bytes(content)


def _push_saved(files: dict[str, bytes], repo_id: str, **options: Any) -> str:
    return push_saved(lambda folder: _write(files, folder), repo_id, **options)


@contextmanager
def start_client(environment: dict[str, str]) -> Iterator[Client]:
    """A new process with these environment variables, as a function that calls functions in it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_prepare, initargs=(environment,)) as pool:
        yield lambda function, *args, **options: pool.submit(function, *args, **options).result()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        server.add(MODEL, {"config.json": CONFIG, "model.safetensors": WEIGHTS, "onnx/config.json": b"in a folder"})
        server.add(MODEL, {"config.json": b"first"}, revision="v1.0")
        server.add(MODEL, {"config.json": b"other"}, revision="try/this")
        server.add(SHARDED, {"model.safetensors.index.json": INDEX, **SHARDS})
        server.add(GATED, {"config.json": CONFIG, "model.safetensors": WEIGHTS})
        server.gated[GATED] = "hf_member"
        yield server


@pytest.fixture(scope="module")
def client(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with start_client(server.environment(tmp_path_factory.mktemp("home"))) as client:
        yield client


@pytest.fixture(autouse=True)
def _forget_requests(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        request.getfixturevalue("server").requests.clear()


def asked(server: HubServer, method: str) -> list[str]:
    """The last parts of the paths that were asked for with this method."""
    return [request.path.split("/")[-1] for request in server.requests if request.method == method]


class TestDownload:
    def test_files_arrive_and_stay(self, client, server, tmp_path):
        names = ["config.json", "model.safetensors", "vocab.txt"]
        assert client(_read, MODEL, *names, cache_dir=tmp_path) == [CONFIG, WEIGHTS, None]
        server.requests.clear()
        assert client(_read, MODEL, *names, cache_dir=tmp_path) == [CONFIG, WEIGHTS, None]
        # Where the branch stands is asked once; the rest of that commit is known, missing files included.
        assert [request[:2] for request in server.requests] == [("HEAD", f"/{MODEL}/resolve/main/config.json")]

    def test_an_unchanged_file_of_a_new_commit_is_not_downloaded_again(self, client, server, tmp_path):
        server.add("tester/moving", {"config.json": CONFIG, "model.safetensors": WEIGHTS})
        client(_read, "tester/moving", "config.json", "model.safetensors", cache_dir=tmp_path)
        server.add("tester/moving", {"config.json": b"new"})
        server.requests.clear()
        found = client(_read, "tester/moving", "config.json", "model.safetensors", cache_dir=tmp_path)
        assert found == [b"new", WEIGHTS]
        assert asked(server, "GET") == ["config.json"]

    def test_all_files_are_of_one_commit(self, client, server, tmp_path):
        server.add("tester/busy", {"config.json": CONFIG, "model.safetensors": WEIGHTS})
        weights = server.folder("tester/busy") / "model.safetensors"
        found = client(_read_around, weights, "tester/busy", "config.json", "model.safetensors", cache_dir=tmp_path)
        assert found == [CONFIG, WEIGHTS]

    def test_revision(self, client, server, tmp_path):
        commit = server.commit(MODEL, "v1.0")
        for revision, content in (("v1.0", b"first"), ("try/this", b"other"), (commit, b"first"), ("main", CONFIG)):
            assert client(_read, MODEL, "config.json", revision=revision, cache_dir=tmp_path) == [content]

    def test_subfolder(self, client, tmp_path):
        found = client(_read, MODEL, "config.json", "model.safetensors", subfolder="onnx", cache_dir=tmp_path)
        assert found == [b"in a folder", None]

    def test_shards(self, client, server, tmp_path):
        assert client(_read_shards, SHARDED, cache_dir=tmp_path) == list(SHARDS.values())
        assert len(asked(server, "GET")) == 1 + len(SHARDS)

    def test_a_missing_shard_is_named(self, client, server, tmp_path):
        server.add("tester/lacking", {"model.safetensors.index.json": INDEX})
        with pytest.raises(HubError, match=r"no file 'model-0000\d-of-00003.safetensors' in tester/lacking"):
            client(_read_shards, "tester/lacking", cache_dir=tmp_path)

    def test_a_lost_connection_is_resumed(self, client, server, tmp_path):
        large, chunk = WEIGHTS * 25, 10 * 2**20  # the client writes chunks of this size
        server.add("tester/large", {"model.safetensors": large})
        server.drop_after["model.safetensors"] = chunk + 1000
        assert client(_read_stubbornly, "tester/large", "model.safetensors", cache_dir=tmp_path) == [large]
        ranges = [request.headers.get("range") for request in server.requests if request.method == "GET"]
        assert ranges == [None, f"bytes={chunk}-"]

    def test_half_a_file_is_refused_and_forgotten(self, client, server, tmp_path):
        server.cut["model.safetensors"] = 1000
        with pytest.raises(HubError, match=r"get 'model.safetensors' of tester/model: what arrived is not the whole"):
            client(_read, MODEL, "model.safetensors", cache_dir=tmp_path)
        del server.cut["model.safetensors"]
        assert client(_read, MODEL, "model.safetensors", cache_dir=tmp_path) == [WEIGHTS]

    def test_force_download_fetches_each_file_once_more(self, client, server, tmp_path):
        client(_read, MODEL, "config.json", cache_dir=tmp_path)
        names = ["config.json", "config.json", "model.safetensors", "vocab.txt"]
        found = client(_read, MODEL, *names, force_download=True, cache_dir=tmp_path)
        assert found == [CONFIG, CONFIG, WEIGHTS, None]
        assert asked(server, "GET").count("config.json") == 2

    def test_an_old_name_leads_to_the_new_one(self, client, server, tmp_path):
        server.moved["bert-base"] = MODEL
        assert client(_read, "bert-base", "config.json", "model.safetensors", cache_dir=tmp_path) == [CONFIG, WEIGHTS]

    def test_home_is_the_place_of_the_cache(self, client, server):
        path = client(_require, MODEL, "config.json")
        home = client(os.getenv, "HF_HOME")
        commit = server.commit(MODEL)
        assert path == Path(home, "hub", "models--tester--model", "snapshots", commit, "config.json")


class TestRefusals:
    def test_gated(self, client, tmp_path):
        for token in (None, "hf_stranger"):
            with pytest.raises(HubError, match=r"meta/gated is gated: ask for access on http.*/meta/gated, and"):
                client(_read, GATED, "config.json", token=token, cache_dir=tmp_path)

    def test_gated_opens_to_its_members(self, client, server, tmp_path):
        names = ["config.json", "model.safetensors"]
        assert client(_read, GATED, *names, token="hf_member", cache_dir=tmp_path / "1") == [CONFIG, WEIGHTS]
        assert client(_read_with_token, "hf_member", GATED, *names, cache_dir=tmp_path / "2") == [CONFIG, WEIGHTS]
        stored = [request for request in server.requests if request.path.startswith("/objects/")]
        assert len(stored) == 2
        assert all("authorization" not in request.headers for request in stored)  # the token stays with the hub

    def test_no_such_repository(self, client, tmp_path):
        with pytest.raises(HubError, match=r"Cannot get 'config.json' of tester/modle: http.* has no model"):
            client(_read, "tester/modle", "config.json", cache_dir=tmp_path)

    def test_no_such_revision(self, client, tmp_path):
        with pytest.raises(HubError, match=r"tester/model has no revision 'v2.0': give a branch, a tag or a commit"):
            client(_read, MODEL, "config.json", revision="v2.0", cache_dir=tmp_path)

    def test_no_such_file(self, client, tmp_path):
        with pytest.raises(HubError, match=r"no file 'vocab.txt' in tester/model \(revision v1.0\): check the name"):
            client(_require, MODEL, "vocab.txt", revision="v1.0", cache_dir=tmp_path)

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            (401, "does not accept the token: log in"),
            (403, "your token does not allow it: check its permissions"),
            (404, "answered with an error"),
            (500, "answered with an error, try again later (.*500"),
        ],
    )
    def test_other_answers(self, client, server, tmp_path, status, words):
        server.failing["model.safetensors"] = status
        with pytest.raises(HubError, match=words.replace("(", r"\(")):
            client(_read, MODEL, "model.safetensors", cache_dir=tmp_path)
        del server.failing["model.safetensors"]

    def test_errors_of_the_disk_pass_unchanged(self, client, tmp_path):
        (tmp_path / "cache").write_text("a file where the folder should be")
        with pytest.raises(OSError) as caught:
            client(_read, MODEL, "config.json", cache_dir=tmp_path / "cache")
        assert not isinstance(caught.value, HubError)
        assert caught.value.errno is not None

    def test_a_token_that_is_not_stored(self, client, tmp_path):
        with pytest.raises(HubError, match="no token is stored on this machine: log in"):
            client(_read, MODEL, "config.json", token=True, cache_dir=tmp_path)


class TestOffline:
    def test_local_files_only(self, client, server, tmp_path):
        options = {"cache_dir": tmp_path, "local_files_only": True}
        with pytest.raises(HubError, match=r"config.json' of tester/model: it is not in the cache.*: drop local_"):
            client(_read, MODEL, "config.json", **options)
        client(_read, MODEL, "config.json", "vocab.txt", cache_dir=tmp_path)
        server.requests.clear()
        found = client(_read, MODEL, "vocab.txt", "model.safetensors", "config.json", "vocab.txt", **options)
        assert found == [None, None, CONFIG, None]
        with pytest.raises(HubError, match=r"'model.safetensors' of tester/model: it is not in the cache"):
            client(_require, MODEL, "model.safetensors", **options)
        with pytest.raises(HubError, match="not in the cache"):
            client(_read, MODEL, "config.json", revision="v1.0", **options)
        assert client(_describe, MODEL, **options) == "tester/model (cached files only)"
        assert server.requests == []

    def test_a_snapshot_of_the_hub_library_is_enough(self, client, tmp_path):
        client(_snapshot, MODEL, cache_dir=tmp_path)  # as `hf download` makes it: nothing says what the hub has not
        names = ["vocab.txt", "config.json", "model.safetensors"]
        assert client(_read, MODEL, *names, cache_dir=tmp_path, local_files_only=True) == [None, CONFIG, WEIGHTS]

    def test_offline_variable(self, client, server, tmp_path):
        client(_read, MODEL, "config.json", cache_dir=tmp_path)
        server.requests.clear()
        with start_client({**server.environment(tmp_path), "HF_HUB_OFFLINE": "1"}) as offline:
            assert offline(_read, MODEL, "config.json", "model.safetensors", cache_dir=tmp_path) == [CONFIG, None]
            with pytest.raises(HubError, match=r"it is not in the cache, and the hub may not be asked: unset HF_"):
                offline(_read, SHARDED, "config.json", cache_dir=tmp_path)
            with pytest.raises(HubError, match="Cannot download tester/model anew: unset HF_HUB_OFFLINE"):
                offline(_read, MODEL, "config.json", force_download=True, cache_dir=tmp_path)
            with pytest.raises(HubError, match=r"push to tester/new: the hub may not be asked: unset HF_HUB"):
                offline(_push_saved, {"config.json": CONFIG}, "tester/new")
        assert server.requests == []

    def test_no_connection(self, tmp_path):
        with HubServer(tmp_path / "hub") as server:
            server.add(MODEL, {"config.json": CONFIG})
            environment = server.environment(tmp_path / "home")
            with start_client(environment) as client:
                assert client(_read, MODEL, "config.json") == [CONFIG]
        with start_client(environment) as client:  # as the server is gone
            found, messages = client(_read_noting_warnings, MODEL, "config.json", "a.txt", "b.txt")
            assert found == [CONFIG, None, None]
            assert len(messages) == 1
            assert "The hub cannot be reached: only those files of tester/model are used" in messages[0]
            with pytest.raises(HubError, match=rf"'a.txt' of tester/model: the connection to {server.url} failed"):
                client(_require, MODEL, "a.txt")
            with pytest.raises(HubError, match=r"Cannot get 'config.json' of tester/model: the connection to"):
                client(_read, MODEL, "config.json", force_download=True)
            with pytest.raises(HubError, match="Cannot push to tester/new: the connection to"):
                client(_push_saved, {"config.json": CONFIG}, "tester/new")


class TestPush:
    FILES = {"config.json": CONFIG, "model.safetensors": b"new", "README.md": b"# Card", "a/b": b"", "pi.bin": b"314"}

    def test_a_folder_becomes_a_repository(self, client, server, tmp_path):
        _write(self.FILES, tmp_path)
        address = client(push_folder, tmp_path, "tester/new", token=server.token, commit_message="First steps")
        assert address == f"{server.url}/tester/new/commit/{server.commit('tester/new')}"
        assert server.files("tester/new") == self.FILES
        assert server.commits[-1] == ("tester/new", "main", "First steps")
        assert len(asked(server, "PUT")) == 2  # the large files go to the storage host
        assert client(_read, "tester/new", "model.safetensors", cache_dir=tmp_path / "cache") == [b"new"]

    def test_only_what_changed_is_uploaded(self, client, server):
        client(_push_saved, self.FILES, "tester/again", token=server.token)
        server.requests.clear()
        changed = {**self.FILES, "config.json": b"{}"}
        client(_push_saved, changed, "tester/again", token=server.token)
        assert server.files("tester/again") == changed
        assert server.commits[-1][2] == "Upload with keras_models"
        assert asked(server, "PUT") == []

    def test_private_and_without_owner(self, client, server, tmp_path):
        client(_push_saved, {"config.json": CONFIG}, "secret", private=True, token=server.token)
        with pytest.raises(HubError, match=r"has no model 'tester/secret', or it is private: .* pass token="):
            client(_read, "tester/secret", "config.json", cache_dir=tmp_path)
        assert client(_read, "tester/secret", "config.json", token=server.token, cache_dir=tmp_path) == [CONFIG]

    def test_branch_and_pull_request(self, client, server):
        client(_push_saved, {"config.json": CONFIG}, "tester/branches", token=server.token)
        for content in (b"1", b"2"):  # the branch is made by the first push
            client(_push_saved, {"config.json": content}, "tester/branches", revision="dev/x", token=server.token)
        address = client(_push_saved, {"config.json": b"3"}, "tester/branches", create_pr=True, token=server.token)
        assert address == f"{server.url}/tester/branches/discussions/1"
        for revision, content in (("main", CONFIG), ("dev/x", b"2"), ("refs/pr/1", b"3")):
            assert server.files("tester/branches", revision) == {"config.json": content}

    @pytest.mark.parametrize(
        ("repo", "options", "words"),
        [
            ("tester/new", {}, "Cannot push to tester/new: .* does not accept the token: log in with"),
            ("google/new", {"token": HubServer.token}, "Cannot push to google/new: your token does not allow it"),
            ("a/b/c", {"token": HubServer.token}, "Cannot push to a/b/c: 'a/b/c' is not a hub id"),
        ],
    )
    def test_refused(self, client, repo, options, words):
        with pytest.raises(HubError, match=words):
            client(_push_saved, {"config.json": CONFIG}, repo, **options)

    def test_nothing_to_push(self, tmp_path):
        with pytest.raises(HubError, match=r"The folder '.*nowhere' does not exist: there is nothing to push"):
            push_folder(tmp_path / "nowhere", "tester/new")
        with pytest.raises(ValueError, match="create_pr=True opens a pull request against the default branch"):
            push_folder(tmp_path, "tester/new", create_pr=True, revision="dev")


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        _write({"config.json": CONFIG, "onnx/config.json": b"in a folder"}, tmp_path / "owner" / "name")
        (tmp_path / "secret.txt").write_text("outside")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        return tmp_path / "owner" / "name"

    def test_files(self, folder):
        repository = Repository(folder, revision="main", force_download=True)
        assert repository.is_local
        assert repository.folder == folder
        assert (str(repository), repository.name) == (str(folder), str(folder))
        assert repository.file("config.json") == folder / "config.json"
        assert repository.files(["onnx/config.json", "config.json"]) == [
            folder / "onnx/config.json",
            folder / "config.json",
        ]
        assert repository.file("vocab.txt") is None
        assert repository.file("onnx") is None  # a folder is no file
        with pytest.raises(HubError, match=r"There is no file 'vocab.txt' in .*/owner/name: check the name"):
            repository.file("vocab.txt", required=True)

    def test_a_folder_wins_over_a_hub_id(self, folder):
        repository = Repository("owner/name", subfolder="onnx")
        assert repository.is_local
        assert repository.file("config.json").read_bytes() == b"in a folder"

    def test_home(self, folder):
        assert Repository("~/owner/name").file("config.json") == folder / "config.json"

    @pytest.mark.parametrize("name", ["../../secret.txt", "/etc/hostname", "onnx/../../../secret.txt"])
    def test_names_stay_inside(self, folder, name):
        with pytest.raises(HubError, match="is not the name of a file inside"):
            Repository(folder).file(name)

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("./model", "The folder './model' does not exist: check the path"),
            ("/no/model", "The folder '/no/model' does not exist"),
            ("~/model", "The folder '~/model' does not exist"),
            ("owner/name/model", "The folder 'owner/name/model' does not exist"),
            (Path("model"), "The folder 'model' does not exist"),
            ("owner\\model", "does not exist"),
            ("owner/name/config.json", "is a file: give the folder that holds it"),
            ("https://huggingface.co/owner/name", "is an address: give the hub id alone"),
            ("my model", "'my model' is neither an existing folder nor a hub id"),
            ("", "'' is neither an existing folder nor a hub id"),
        ],
    )
    def test_neither_folder_nor_id(self, folder, source, words):
        with pytest.raises(HubError, match=words.replace("\\", r"\\")):
            Repository(source)


def test_contradicting_options():
    with pytest.raises(ValueError, match="local_files_only=True and force_download=True contradict each other"):
        Repository(MODEL, local_files_only=True, force_download=True)


def test_split_options():
    given = {"revision": "v1", "num_labels": 2, "use_auth_token": "hf_x", "cache_dir": None}
    assert split_options(given) == ({"revision": "v1", "token": "hf_x", "cache_dir": None}, {"num_labels": 2})
    assert split_options({"token": "new", "use_auth_token": "old"}) == ({"token": "new"}, {})
    assert split_options({}) == ({}, {})


def test_description():
    assert str(Repository(MODEL)) == MODEL
    repository = Repository(MODEL, revision="v1", subfolder="onnx/")
    assert (str(repository), repository.name) == ("tester/model (folder onnx, revision v1)", MODEL)
    assert (repository.is_local, repository.folder) == (False, None)


def test_huggingface_hub_is_imported_when_needed():
    code = "import sys, keras_models.hub; print('huggingface_hub' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
