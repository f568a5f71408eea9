"""Conditional requests and ranges (RFC 9110 13 and 14), as functions of header values alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

# 18 digits say more than any file has, and keep hostile numbers away from int().
SINGLE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range asks for nothing that the document has: 416."""


def not_modified(headers: Mapping[str, str], etag: str | None, modified_s: int | None) -> bool:
    """Whether the client's copy is still good: 304. If-None-Match is asked first, and alone where it stands
    (RFC 9110 13.2.2). Header names are in lower case."""
    if_none_match = headers.get("if-none-match")
    if if_none_match is not None:
        return etag is not None and (
            if_none_match.strip() == "*" or etag in re.findall(r'"[^"]*"', if_none_match)
        )
    since_s = _date_s(headers.get("if-modified-since"))
    return since_s is not None and modified_s is not None and modified_s <= since_s


def selected_range(
    headers: Mapping[str, str], size: int, etag: str | None, modified_s: int | None
) -> tuple[int, int] | None:
    """The (offset, length) that a GET's Range header asks for; None to send the whole document.

    Whole where there is no Range, where its syntax or unit is unknown, where it lists several ranges (RFC
    9110 14.2 lets a server ignore it), and where If-Range names another version. Raises Unsatisfiable.
    """
    wanted = SINGLE_RANGE.fullmatch(headers.get("range", ""))
    if wanted is None or not _same_version(headers.get("if-range"), etag, modified_s):
        return None
    first, last = wanted.groups()
    if first == "":
        if last == "":
            return None
        if int(last) == 0:
            raise Unsatisfiable
        suffix = min(int(last), size)
        return (size - suffix, suffix) if suffix else None  # an empty document has no range that can be named
    start = int(first)
    if last != "" and int(last) < start:
        return None  # RFC 9110 14.1.1: an invalid range set is ignored
    if start >= size:
        raise Unsatisfiable
    end = size if last == "" else min(int(last) + 1, size)
    return start, end - start


def _same_version(if_range: str | None, etag: str | None, modified_s: int | None) -> bool:
    """RFC 9110 13.1.5: an entity tag by strong comparison, or exactly the date that Last-Modified gave."""
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range == etag
    return modified_s is not None and _date_s(if_range) == modified_s


def _date_s(text: str | None) -> int | None:
    """Seconds since the epoch of an HTTP date; None where there is none, or none that can be read."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # "-0000", and the zone-less asctime form: HTTP dates are in GMT
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp())
    except (ValueError, OverflowError):
        return None
