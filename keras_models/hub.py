"""Files of a local folder or of a hub repository: found, downloaded, cached, and pushed back.

huggingface_hub does the transport, so its cache, resuming, progress bars and environment variables (HF_HOME, HF_TOKEN,
HF_ENDPOINT, HF_HUB_OFFLINE) hold here too. It is imported inside functions: `import keras_models` has to stay quick.
"""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

HUB_OPTIONS: tuple[str, ...] = ("revision", "subfolder", "token", "cache_dir", "local_files_only", "force_download")
LOG_IN = "log in with `hf auth login` or pass token="
ID_FORM = "a hub id ('owner/name', of letters, digits, '-', '_' and '.', with no '-' or '.' at either end)"


class HubError(OSError):
    """A file, folder or repository that cannot be had; the message says what is wrong and what to do about it."""


class Repository:
    """The files of one model: a local folder, or one commit of a repository on the Hugging Face hub.

    Args:
        source: a folder (`~` is expanded) or a hub id such as "google-bert/bert-base-uncased"; an existing folder wins.
        revision: branch, tag or commit on the hub; "main" when None.
        subfolder: the folder inside the repository in which to look.
        token: an access token; True for the one stored by `hf auth login`, False for none, None for whichever there is.
        cache_dir: where downloads are kept, instead of huggingface_hub's own cache.
        local_files_only: never ask the hub, use what has been downloaded before.
        force_download: download even what is in the cache.

    All files come from the commit that the first one came from, even if the branch moves on in between.

    Raises:
        HubError: `source` is neither a folder nor a hub id.
        ValueError: `local_files_only` and `force_download` are both set.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        subfolder: str | None = "",
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ):
        if local_files_only and force_download:
            raise ValueError("local_files_only=True and force_download=True contradict each other: drop one of them.")
        self.name = os.fspath(source)
        self.revision = revision
        self.subfolder = (subfolder or "").strip("/")
        self.token = token
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir is not None else None
        self.local_files_only = local_files_only
        self.force_download = force_download
        self._commit: str | None = None
        self._found: dict[PurePosixPath, Path] = {}  # so that force_download fetches a file once, not at every mention
        folder = Path(self.name).expanduser()
        self.folder = folder / self.subfolder if self.name and folder.is_dir() else None
        if not self.is_local:
            _check_id(source)
            if force_download and self._offline():
                raise HubError(f"Cannot download {self.name} anew: unset HF_HUB_OFFLINE, or drop force_download=True.")

    @property
    def is_local(self) -> bool:
        """Whether this is a folder rather than a repository on the hub."""
        return self.folder is not None

    def __str__(self) -> str:
        if self.is_local:
            return str(self.folder)
        facts = [f"folder {self.subfolder}"] if self.subfolder else []
        facts += [f"revision {self.revision}"] if self.revision else []
        facts += ["cached files only"] if self._offline() else []
        return f"{self.name} ({', '.join(facts)})" if facts else self.name

    def __repr__(self) -> str:
        return f"Repository({str(self)!r})"

    def file(self, name: str, required: bool = False) -> Path | None:
        """The local path of the file `name`, downloaded if need be; None if the repository does not have it.

        Without access to the hub, a repository that is in the cache counts as consisting of its cached files.

        Raises:
            HubError: the file is `required` and missing, or the repository cannot be reached or read.
        """
        inside = PurePosixPath(self.subfolder, name)
        if inside.is_absolute() or ".." in inside.parts:
            raise HubError(f"{name!r} is not the name of a file inside {self}: it must not lead out of it.")
        if self.folder is not None:
            path = self.folder / name if (self.folder / name).is_file() else None
        else:
            path = self._found.get(inside) or self._download(inside, required)
        if path is None and required:
            raise HubError(f"There is no file {name!r} in {self}: check the name, the revision and the subfolder.")
        return path

    def files(self, names: Iterable[str]) -> list[Path]:
        """The local paths of several files, all of them required, downloaded side by side.

        Raises:
            HubError: one of them is missing or cannot be downloaded.
        """
        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(partial(self.file, required=True), names))

    def _download(self, inside: PurePosixPath, required: bool) -> Path | None:
        from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        where = {"repo_id": self.name, "filename": str(inside), "cache_dir": self.cache_dir}
        where["revision"] = self._commit or self.revision
        # A commit never changes: what it was once found to lack it lacks for good.
        if self._commit is not None and try_to_load_from_cache(**where) is _CACHED_NO_EXIST:
            return None
        options = {"token": self.token, "force_download": self.force_download, "library_name": "keras_models"}
        with _explained(f"get {str(inside)!r} of {self.name}", self.name, self.revision):
            try:
                path = Path(hf_hub_download(**where, **options, local_files_only=self.local_files_only))
            except LocalEntryNotFoundError as error:
                self._use_cache_only(required, error)
                return None
            except EntryNotFoundError:
                return None
        self._commit = path.parents[len(inside.parts) - 1].name  # .../snapshots/<commit>/<subfolder>/<name>
        self._found[inside] = path
        return path

    def _use_cache_only(self, required: bool, error: OSError) -> None:
        """Settles for the cached files of the repository after `error`, which says that the hub is out of reach."""
        if required or not self._is_cached():
            raise error
        if not self._offline():
            warnings.warn(f"The hub cannot be reached: only those files of {self} are used that are in the cache.")
            self.local_files_only = True

    def _is_cached(self) -> bool:
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.file_download import repo_folder_name

        folder = Path(self.cache_dir or HF_HUB_CACHE, repo_folder_name(repo_id=self.name, repo_type="model"))
        reference = folder / "refs" / (self.revision or "main")
        commit = reference.read_text() if reference.is_file() else self.revision
        return commit is not None and (folder / "snapshots" / commit).is_dir()

    def _offline(self) -> bool:
        from huggingface_hub.constants import HF_HUB_OFFLINE

        return self.local_files_only or HF_HUB_OFFLINE


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those `options` that `Repository` takes, and the rest; `use_auth_token` is read as the `token` it now is."""
    rest = dict(options)
    if "use_auth_token" in rest:
        rest.setdefault("token", rest.pop("use_auth_token"))
    return {name: rest.pop(name) for name in HUB_OPTIONS if name in rest}, rest


def push_folder(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
) -> str:
    """Uploads the files of `folder` to the hub as one commit, creating the repository if there is none.

    Args:
        folder: the folder to upload.
        repo_id: "owner/name", or "name" for a repository of one's own.
        commit_message: what the commit is called.
        private: whether a new repository is private; None for the owner's default.
        token: an access token with the right to write; None for the stored one.
        create_pr: open a pull request instead of committing to the branch.
        revision: the branch to commit to, created if there is none; "main" when None.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        HubError: the repository cannot be created or written to, or the hub cannot be reached.
        ValueError: `create_pr` and `revision` are both set.
    """
    from huggingface_hub import HfApi

    if create_pr and revision is not None:
        raise ValueError("create_pr=True opens a pull request against the default branch: drop it or revision=.")
    if not Path(folder).expanduser().is_dir():
        raise HubError(f"The folder {os.fspath(folder)!r} does not exist: there is nothing to push.")
    api = HfApi(token=token, library_name="keras_models")
    with _explained(f"push to {repo_id}", repo_id, revision):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=Path(folder).expanduser(),
            commit_message=commit_message or "Upload with keras_models",
            revision=revision,
            create_pr=create_pr,
        )
    return commit.pr_url or commit.commit_url


def push_saved(save: Callable[[Path], None], repo_id: str, **options: Any) -> str:
    """Pushes what `save` writes into the (temporary) folder it is given; the options are those of `push_folder`."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        return push_folder(folder, repo_id, **options)


def _check_id(source: str | os.PathLike[str]) -> None:
    """Refuses what cannot be the id of a repository, `source` not being an existing folder."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    text = os.fspath(source)
    if "://" in text:
        raise HubError(f"{text!r} is an address: give the hub id alone, as in 'google-bert/bert-base-uncased'.")
    if Path(text).expanduser().is_file():
        raise HubError(f"{text!r} is a file: give the folder that holds it.")
    if not isinstance(source, str) or text.startswith((".", "/", "~")) or "\\" in text or text.count("/") > 1:
        raise HubError(f"The folder {text!r} does not exist: check the path, seen from {str(Path.cwd())!r}.")
    try:
        validate_repo_id(text)
    except HFValidationError as error:
        raise HubError(f"{text!r} is neither an existing folder nor {ID_FORM}.") from error


@contextmanager
def _explained(action: str, repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns what huggingface_hub raises during `action` into a HubError.

    Errors of the system, such as a full disk or a folder that may not be written to, carry a number and pass unchanged.
    """
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (OSError, HTTPError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise HubError(f"Cannot {action}: {_reason(error, repo, revision)}.") from error


def _reason(error: Exception, repo: str, revision: str | None) -> str:
    """What is wrong with the repository, and what to do about it."""
    from huggingface_hub import constants, errors

    not_cached = isinstance(error, errors.LocalEntryNotFoundError)
    if error.__cause__ and (not_cached or type(error) in (ValueError, RuntimeError)):
        error = error.__cause__  # these only say that something failed
    hub, page = constants.ENDPOINT, f"{constants.ENDPOINT}/{repo}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    words = " ".join(str(error).split()).rstrip(".")
    match error:
        case errors.GatedRepoError():
            return f"{repo} is gated: ask for access on {page}, and once it is granted {LOG_IN}"
        case errors.RepositoryNotFoundError():
            return f"{hub} has no model {repo!r}, or it is private: check the spelling, or {LOG_IN}"
        case errors.RevisionNotFoundError():
            return f"{repo} has no revision {revision!r}: give a branch, a tag or a commit that {page}/tree/main lists"
        case errors.HFValidationError():
            return f"{repo!r} is not {ID_FORM}"
        case errors.LocalTokenNotFoundError():
            return f"no token is stored on this machine: {LOG_IN}"
        case errors.OfflineModeIsEnabled() | errors.LocalEntryNotFoundError():
            switch = "unset HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "drop local_files_only=True"
            place = "it is not in the cache, and " if not_cached else ""
            return f"{place}the hub may not be asked: {switch} to go online"
    if status == 401:
        return f"{hub} does not accept the token: {LOG_IN}"
    if status == 403:
        return f"your token does not allow it: check its permissions on {hub}/settings/tokens, or {LOG_IN}"
    if status is not None:
        return f"{hub} answered with an error, try again later ({words})"
    if type(error) is OSError:
        return f"what arrived is not the whole file, try again ({words})"
    if isinstance(error, (OSError, errors.HTTPError)):
        return f"the connection to {hub} failed, check it and HF_ENDPOINT and try again ({words})"
    return words
