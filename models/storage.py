"""Whole files by name, in a folder or an object store."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from engine.addresses import redact
from engine.errors import KairosError, SettingsError


class StorageUnavailable(KairosError):
    """The models' folder or object store did not answer; trying again may help."""


class Storage:
    """Files under one address; a reader sees a whole file or none.

    `url` is a folder or anything fsspec opens (s3://…, gs://…, memory://…). Every method raises
    StorageUnavailable where it is out of reach.
    """

    def __init__(self, url: str | Path) -> None:
        try:
            # Listings are not cached: another machine writes.
            self._fs, root = fsspec.core.url_to_fs(str(url), use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise SettingsError(f"models_url: {redact(str(url))}: {error}") from error
        self._root = root.rstrip("/")

    def read(self, place: str) -> bytes:
        """A file's contents; raises FileNotFoundError."""
        path = self._path(place)
        with _reaching(path):
            raw: bytes = self._fs.cat_file(path)
        return raw

    def write(self, place: str, raw: bytes) -> None:
        """Write or replace a file: at no moment is half of it to be seen."""
        path = self._path(place)
        with _reaching(path):
            if isinstance(self._fs, LocalFileSystem):
                _write_durably(Path(path), raw, Path(self._root))
            else:  # an object store's put is all or nothing
                self._fs.pipe_file(path, raw)

    def listing(self, place: str) -> dict[str, int]:
        """Name -> bytes of what stands in a folder, 0 for a folder; empty where there is none."""
        path = self._path(place)
        try:
            with _reaching(path):
                entries = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        # Some object stores list the folder itself as well.
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: (
                entry["size"] if entry["type"] == "file" else 0
            )
            for entry in entries
            if entry["name"].rstrip("/") != path
        }

    def _path(self, place: str) -> str:
        return f"{self._root}/{place}"


@contextmanager
def _reaching(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (NotADirectoryError, IsADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except Exception as error:  # each of fsspec's stores has errors of its own
        raise StorageUnavailable(f"{path}: {error}") from error


def _write_durably(file: Path, raw: bytes, root: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as out:
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    # A pointer must not outlive, in a power cut, the names of what it leads to.
    for folder in (file.parent, *file.parent.parents):
        _sync_folder(folder)
        if folder == root:
            break


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
