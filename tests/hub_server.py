"""A small server on loopback that speaks the Hugging Face hub's protocol, to test downloading and pushing offline."""

import base64
import hashlib
import json
import re
import shutil
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".h5", ".msgpack")  # kept as LFS objects: served by and uploaded to the storage host


class Request(NamedTuple):
    """A request the server got; the names of the headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class HubServer:
    """The repositories below a folder, served while the context is entered.

    A file lies at `root/<owner>/<name>/<revision>/<path>`; a "/" in a revision is written %2F. The id of a commit is a
    hash over the files of a revision, and what was served under it stays there when they change. Large files are
    redirected to a second address, as the hub does.

    Attributes:
        url: the address of the hub, for HF_ENDPOINT.
        storage_url: the address large files are redirected to.
        user, token: the account that may push, to repositories of its own.
        gated: the token that opens a repository, by repository.
        private: repositories that only `token` can see.
        moved: new names of repositories, by old name.
        info: additions to what is said about a repository, e.g. {"tester/model": {"pipeline_tag": "fill-mask"}}.
        drop_after: after how many bytes to cut the connection, by path in the repository; holds for one answer each.
        cut: to what size to cut what is sent of a file while its announced size stays, by path in the repository.
        failing: the status to answer requests for a file with, by path in the repository.
        requests: what was asked for, in order.
        commits: what was pushed: repository, revision and message.
    """

    user = "tester"
    token = "hf_tester"

    def __init__(self, root: Path | str):
        self.root = Path(root)
        self.gated: dict[str, str] = {}
        self.private: set[str] = set()
        self.moved: dict[str, str] = {}
        self.info: dict[str, dict[str, Any]] = {}
        self.drop_after: dict[str, int] = {}
        self.cut: dict[str, int] = {}
        self.failing: dict[str, int] = {}
        self.requests: list[Request] = []
        self.commits: list[tuple[str, str, str]] = []
        self.objects: dict[str, tuple[str, bytes]] = {}  # large files by their hash: path in the repository, content
        self._history: dict[tuple[str, str], dict[str, bytes]] = {}
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server in self._servers:
            server.hub = self
            server.daemon_threads = True
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> "HubServer":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def environment(self, home: Path | str) -> dict[str, str]:
        """The variables under which a new process uses this server, keeping its downloads in the folder `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(Path(home, "hub")),
            "HF_TOKEN": "",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def add(self, repo: str, files: Mapping[str, bytes | str], revision: str = "main") -> str:
        """Writes `files`, by path, into a revision of a repository; returns the id of the commit."""
        folder = self.folder(repo, revision)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return self.commit(repo, revision)

    def folder(self, repo: str, revision: str = "main") -> Path:
        """Where the files of a branch or tag lie."""
        return self.root / repo / quote(revision, safe="")

    def commit(self, repo: str, revision: str = "main") -> str | None:
        """The id of the commit that a branch, tag or commit stands for; None if there is no such revision."""
        folder = self.folder(repo, revision)
        if not folder.is_dir():
            return revision if (repo, revision) in self._history else None
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        listing = "".join(f"{name} {_object_id(name, files[name])}\n" for name in sorted(files))
        commit = hashlib.sha1(f"{repo}\n{listing}".encode()).hexdigest()
        self._history[repo, commit] = files
        return commit

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """The contents of the files of a revision, by path."""
        return self._history[repo, self.commit(repo, revision)]


def _object_id(name: str, content: bytes) -> str:
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES = (
    ("GET", rf"/(?P<repo>[\w.-]+(/[\w.-]+)?)/resolve/{_REVISION}/(?P<path>.+)", "send_file"),
    ("GET", r"/objects/(?P<oid>\w+)", "send_object"),
    ("GET", rf"/api/models/{_REPO}(/revision/{_REVISION})?", "send_info"),
    ("GET", rf"/api/models/{_REPO}/tree/{_REVISION}", "send_tree"),
    ("POST", r"/api/repos/create", "create_repo"),
    ("POST", r"/api/validate-yaml", "accept_card"),
    ("POST", rf"/api/models/{_REPO}/branch/{_REVISION}", "create_branch"),
    ("POST", rf"/api/models/{_REPO}/preupload/{_REVISION}", "plan_upload"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", "plan_objects"),
    ("PUT", r"/objects/(?P<oid>\w+)", "receive_object"),
    ("POST", rf"/api/models/{_REPO}/commit/{_REVISION}", "receive_commit"),
)


class _Refusal(Exception):
    """An answer other than success: its status, headers, and the words for the user."""

    def __init__(self, status: int, words: str, code: str | None = None, **headers: str):
        self.status, self.words = status, words
        self.headers = {"X-Error-Message": words, **({"X-Error-Code": code} if code else {}), **headers}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, *_: object) -> None:
        """Keeps the output of the tests clean."""

    def answer(self) -> None:
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(self.command, unquote(address.path), headers))
        method = "GET" if self.command == "HEAD" else self.command
        try:
            for known, pattern, name in _ROUTES:
                if known == method and (found := re.fullmatch(pattern, address.path)):
                    parts = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                    return getattr(self, name)(**parts)
            raise _Refusal(404, f"nothing at {address.path}")
        except _Refusal as refusal:
            self.send(refusal.status, json.dumps({"error": refusal.words}).encode(), **refusal.headers)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def send(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_json(self, value: Any, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    # Who may do what.

    def bearer(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def check_reader(self, repo: str) -> None:
        token = self.bearer()
        hidden = repo in self.hub.private and token != self.hub.token
        if hidden or not (self.hub.root / repo).is_dir():
            raise _Refusal(404, "Repository not found", "RepoNotFound")
        if token != self.hub.gated.get(repo, token):
            raise _Refusal(403 if token else 401, f"Access to model {repo} is restricted", "GatedRepo")

    def check_writer(self, owner: str) -> None:
        if self.bearer() != self.hub.token:
            raise _Refusal(401, "Invalid credentials in Authorization header")
        if owner != self.hub.user:
            raise _Refusal(403, f"You have no rights under the namespace {owner}")

    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """The commit a revision stands for, and its files."""
        commit = self.hub.commit(repo, revision)
        if commit is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit, self.hub.files(repo, commit)

    # Reading.

    def send_file(self, repo: str, revision: str, path: str) -> None:
        if repo in self.hub.moved:
            return self.send(307, Location=f"/{self.hub.moved[repo]}/resolve/{quote(revision, safe='')}/{quote(path)}")
        self.check_reader(repo)
        commit, files = self.find(repo, revision)
        headers = {"X-Repo-Commit": commit}
        if path in self.hub.failing:
            raise _Refusal(self.hub.failing[path], "Out of order")
        if path not in files:
            raise _Refusal(404, "Entry not found", "EntryNotFound", **headers)
        content, oid = files[path], _object_id(path, files[path])
        if not path.endswith(LARGE):
            return self.send_part(path, content, oid, **headers)
        self.hub.objects[oid] = path, content
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        return self.send(302, Location=f"{self.hub.storage_url}/objects/{oid}", **headers)

    def send_object(self, oid: str) -> None:
        self.send_part(*self.hub.objects[oid], oid)

    def send_part(self, path: str, content: bytes, oid: str, **headers: str) -> None:
        """Sends a file, or the rest of it that a Range header asks for, with the faults that were ordered."""
        if self.command == "GET":
            content = content[: self.hub.cut.get(path)]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        status = 200
        if start:
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(content) - 1}/{len(content)}"
        drop_after = self.hub.drop_after.pop(path, None) if self.command == "GET" else None
        if drop_after is None:
            return self.send(status, content[start:], ETag=f'"{oid}"', **headers)
        headers["Content-Length"] = str(len(content) - start)
        self.send(status, content[start : start + drop_after], **headers)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def send_info(self, repo: str, revision: str = "main") -> None:
        self.check_reader(repo)
        commit, files = self.find(repo, revision)
        siblings = [{"rfilename": name} for name in sorted(files)]
        known = {"id": repo, "sha": commit, "private": repo in self.hub.private, "siblings": siblings}
        self.send_json({**known, **self.hub.info.get(repo, {})})

    def send_tree(self, repo: str, revision: str) -> None:
        self.check_reader(repo)
        entries = []
        for name, content in sorted(self.find(repo, revision)[1].items()):
            entry = {"type": "file", "path": name, "size": len(content), "oid": _object_id(name, content)}
            if name.endswith(LARGE):
                entry["lfs"] = {"oid": entry["oid"], "size": entry["size"], "pointerSize": 0}
            entries.append(entry)
        self.send_json(entries)

    # Writing.

    def create_repo(self) -> None:
        wanted = json.loads(self.content)
        owner = wanted.get("organization") or self.hub.user
        self.check_writer(owner)
        repo = f"{owner}/{wanted['name']}"
        exists = (self.hub.root / repo).is_dir()
        if not exists:
            (self.hub.root / repo / "main").mkdir(parents=True)
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.hub.private.add(repo)
        self.send_json({"url": f"{self.hub.url}/{repo}", "name": repo}, 409 if exists else 200)

    def accept_card(self) -> None:
        self.send_json({"errors": [], "warnings": []})

    def create_branch(self, repo: str, revision: str) -> None:
        self.check_writer(repo.split("/")[0])
        if self.hub.folder(repo, revision).is_dir():
            raise _Refusal(409, "Reference already exists")
        shutil.copytree(self.hub.folder(repo), self.hub.folder(repo, revision))
        self.send_json({})

    def plan_upload(self, repo: str, revision: str) -> None:
        self.check_writer(repo.split("/")[0])
        _, files = self.find(repo, revision)
        plans = []
        for name in (wanted["path"] for wanted in json.loads(self.content)["files"]):
            mode = "lfs" if name.endswith(LARGE) else "regular"
            oid = _object_id(name, files[name]) if name in files else None
            plans.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.send_json({"files": plans})

    def plan_objects(self, repo: str) -> None:
        self.check_writer(repo.split("/")[0])
        objects = json.loads(self.content)["objects"]
        for wanted in objects:
            if wanted["oid"] not in self.hub.objects:
                wanted["actions"] = {"upload": {"href": f"{self.hub.storage_url}/objects/{wanted['oid']}"}}
        self.send_json({"transfer": "basic", "objects": objects})

    def receive_object(self, oid: str) -> None:
        if hashlib.sha256(self.content).hexdigest() != oid:
            raise _Refusal(400, "The content does not have the announced hash")
        self.hub.objects[oid] = "", self.content
        self.send(200)

    def receive_commit(self, repo: str, revision: str) -> None:
        self.check_writer(repo.split("/")[0])
        self.find(repo, revision)
        header, *changes = (json.loads(line) for line in self.content.splitlines())
        reply = {}
        if "create_pr" in self.query:
            number = len(list((self.hub.root / repo).glob("refs%2Fpr%2F*"))) + 1
            target = f"refs/pr/{number}"
            shutil.copytree(self.hub.folder(repo, revision), self.hub.folder(repo, target))
            reply["pullRequestUrl"] = f"{self.hub.url}/{repo}/discussions/{number}"
            revision = target
        files = {change["value"]["path"]: self.new_content(**change) for change in changes}
        commit = self.hub.add(repo, files, revision)
        self.hub.commits.append((repo, revision, header["value"]["summary"]))
        self.send_json({"commitOid": commit, "commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", **reply})

    def new_content(self, key: str, value: dict[str, str]) -> bytes:
        """What a line of a commit puts into its file."""
        if key == "file":
            return base64.b64decode(value["content"])
        if key == "lfsFile":
            return self.hub.objects[value["oid"]][1]
        raise _Refusal(400, f"This server cannot do {key}")
