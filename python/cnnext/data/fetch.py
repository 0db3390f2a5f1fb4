"""Downloads with checksum and resume: nothing is used that is not the published file."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from .idx import DataError

__all__ = ["Remote", "fetch"]

_CHUNK = 1 << 20
_MAX_BYTES = 1 << 30  # more than any of the files
_TIMEOUT = 30.0  # seconds without a byte


@dataclasses.dataclass(frozen=True)
class Remote:
    """A published file: where it lies and the MD5 that its publisher names."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


def fetch(remote: Remote, folder: Path) -> Path:
    """The file in `folder`, downloaded if it is not there.

    What has come of a download that was cut off stays in ``NAME.part``, and the next call asks for the rest.
    The file gets its name only when its checksum is right.

    Raises:
        DataError: no network, a refusal, a connection that was cut, a wrong checksum, a full disk.
    """
    path = folder / remote.name
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _receive(remote, part)
        found = _md5(part)
        if found != remote.md5:
            part.unlink()
            raise DataError(
                f"{remote.url}: the checksum is {found}, it must be {remote.md5}; nothing is kept"
            )
        os.replace(part, path)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"cannot download {remote.url} ({reason}): put {remote.name} into {folder} by other means"
        ) from None
    except OSError as error:
        raise DataError(f"cannot write {part}: {error.strerror or error}") from None
    return path


def _receive(remote: Remote, part: Path) -> None:
    """Append what is missing, or all of it where the server does not send parts."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == 416:  # there is no rest: all is here, as the checksum will tell
            return
        raise
    with response:
        resumed = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status == 206 and not (resumed and int(resumed[1]) == have):
            raise http.client.HTTPException("the server sent another part than asked for")
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length", "")
        expected = have + int(length) if length.isdigit() else None
        if (expected or 0) > _MAX_BYTES:
            raise http.client.HTTPException(f"{expected} bytes are more than such a file has")
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                have += len(chunk)
                if have > _MAX_BYTES:
                    raise http.client.HTTPException(f"more than {_MAX_BYTES} bytes")
                file.write(chunk)
    if expected is not None and have < expected:
        raise http.client.HTTPException(
            f"cut off after {have} of {expected} bytes; another try goes on from there"
        )


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
