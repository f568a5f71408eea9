"""What a request's target names: a file under a directory, a listing of one, or the built-in welcome page.

The path is taken apart before it is decoded, so an encoded slash or NUL can only make a name that no file
has. `..` is resolved on the path's own segments and never above the root. Symbolic links are followed, as
Python's http.server does: who may write into the directory decides what it shows.
"""

from __future__ import annotations

import errno
import html
import mimetypes
import os
import stat
import time
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes, urlsplit

from .welcome import WELCOME_PAGE

INDEX = "index.html"
HTML = "text/html; charset=utf-8"
# What a name's last extension means where the file is compressed: we send it as it is, not as an encoding.
COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


class Refused(Exception):
    """The request gets `status` instead of a document; `why` is a sentence for the person who asked."""

    def __init__(self, status: int, why: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why
        self.headers = headers


@dataclass(slots=True)
class Document:
    """Something to send: `size` octets of `content`, from its start. `modified_s` is in seconds since the
    epoch, and None (as `etag`) where the document is made anew each time. The receiver closes `content`."""

    content: BinaryIO
    size: int
    content_type: str
    modified_s: int | None = None
    etag: str | None = None


class Site:
    """The documents under `root`, a directory; with None the welcome page alone."""

    def __init__(self, root: str | None = None) -> None:
        self.root = None if root is None else os.path.abspath(root)
        self._started_s = int(time.time())
        mimetypes.init()  # reads the system's tables: milliseconds that no first request shall wait for

    def find(self, target: str) -> Document:
        """The document that the request target names. Raises Refused: 301 for a directory named without its
        final slash, 400, 403, 404, and 503 when no descriptor is to be had."""
        segments, query = _split_target(target)
        if self.root is None:
            return self._welcome(segments)
        path = os.path.join(self.root, *segments)
        try:
            if not stat.S_ISDIR(os.stat(path).st_mode):
                return _open_file(path)
            if segments and segments[-1] != "":
                location = ("Location", _address(segments, query))
                raise Refused(301, "The directory's address ends with a slash.", (location,))
            try:
                return _open_file(os.path.join(path, INDEX))
            except FileNotFoundError:
                return _listing(path, segments)
        except ValueError as error:  # a NUL in the name
            raise Refused(404, "There is no such document.") from error
        except OSError as error:
            raise _refusal(error) from error

    def _welcome(self, segments: list[str]) -> Document:
        if segments not in ([], [""], [INDEX]):
            raise Refused(404, "There is no such document.")
        etag = f'"{self._started_s:x}"'
        return Document(BytesIO(WELCOME_PAGE), len(WELCOME_PAGE), HTML, self._started_s, etag)


def _split_target(target: str) -> tuple[list[str], str]:
    """The decoded segments of a target's path, "" standing last where it ends with a slash, and its query."""
    if target.startswith("/"):
        path, _, query = target.partition("?")
    else:
        # RFC 9112 3.2.2: the absolute form that is sent to proxies must be understood by servers too.
        try:
            parts = urlsplit(target)
        except ValueError as error:
            raise Refused(400, "The request's target is not an address.") from error
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Refused(400, "The request's target is not a path.")
        path, query = parts.path or "/", parts.query
    segments: list[str] = []
    last = ""
    for raw in path.partition("#")[0].split("/"):
        segment = last = os.fsdecode(unquote_to_bytes(raw))
        if "/" in segment:
            raise Refused(404, "There is no such document.")
        if segment == "..":
            if not segments:
                raise Refused(400, "The path leads out of what is served here.")
            segments.pop()
        elif segment not in ("", "."):
            segments.append(segment)
    if last in ("", ".", ".."):
        segments.append("")
    return segments, query


def _open_file(path: str) -> Document:
    # O_NONBLOCK: opening a FIFO must not wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb", buffering=0)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
    return Document(
        content=file,
        size=status.st_size,
        content_type=_content_type(path),
        modified_s=int(status.st_mtime),
        etag=f'"{status.st_mtime_ns:x}-{status.st_size:x}"',
    )


def _content_type(path: str) -> str:
    kind, encoding = mimetypes.guess_type(os.path.basename(path))
    if encoding is not None:
        return COMPRESSED.get(encoding, "application/octet-stream")
    return kind or "application/octet-stream"


def _listing(path: str, segments: list[str]) -> Document:
    """A page that lists a directory: directories first, then by name."""
    title = html.escape("/" + "/".join(_shown(segment) for segment in segments))
    with os.scandir(path) as scan:
        entries = sorted(scan, key=lambda entry: (not entry.is_dir(), entry.name))
    lines = ['<li><a href="../">../</a>'] if segments not in ([], [""]) else []
    for entry in entries:
        slash = "/" if entry.is_dir() else ""
        # safe="": an unescaped colon would make the name look like a scheme.
        address = quote(os.fsencode(entry.name), safe="") + slash
        lines.append(f'<li><a href="{address}">{html.escape(_shown(entry.name))}{slash}</a>')
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        f"<h1>{title}</h1>\n<ul>\n" + "\n".join(lines) + "\n</ul></html>\n"
    ).encode()
    return Document(BytesIO(page), len(page), HTML)


def _shown(name: str) -> str:
    """A file's name as text: octets that are not UTF-8 become the replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")


def _address(segments: list[str], query: str) -> str:
    # One leading slash only: "//name" would send the client to another host.
    path = "/" + "".join(quote(os.fsencode(segment), safe="") + "/" for segment in segments)
    return f"{path}?{query}" if query else path


def _refusal(error: OSError) -> Refused:
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(403, "The document may not be read.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Refused(503, "Too many documents are open at the moment.")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO):
        return Refused(404, "There is no such document.")
    return Refused(500, "The document cannot be read.")


def error_page(status: int, why: str) -> bytes:
    """A page that says `status` and `why`."""
    phrase = HTTPStatus(status).phrase
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{status} {phrase}</title>\n'
        f"<h1>{status} {phrase}</h1>\n<p>{html.escape(why)}</p></html>\n"
    ).encode()
