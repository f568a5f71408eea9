"""Conditional requests and ranges: RFC 9110 sections 13 and 14."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.cli.http_conditions import Unsatisfiable, not_modified, selected_range

ETAG = '"a1"'
MODIFIED_S = 1_700_000_000


def chosen(value: str, size: int = 1000, **headers: str) -> tuple[int, int] | None:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return selected_range({"range": value, **named}, size, ETAG, MODIFIED_S)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-999", (500, 500)),
        ("bytes=500-", (500, 500)),
        ("bytes=999-5000", (999, 1)),
        ("bytes=-1", (999, 1)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes=1-2", (1, 2)),
        # Ignored, so the whole document is sent:
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("", None),
    ],
)
def test_range_selects(value: str, expected: tuple[int, int] | None) -> None:
    assert chosen(value) == expected


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=999999999999999999-"])
def test_range_outside_document_is_unsatisfiable(value: str) -> None:
    with pytest.raises(Unsatisfiable):
        chosen(value)


def test_range_of_empty_document() -> None:
    assert chosen("bytes=-5", size=0) is None
    with pytest.raises(Unsatisfiable):
        chosen("bytes=0-", size=0)


@pytest.mark.parametrize(
    ("if_range", "honoured"),
    [
        (ETAG, True),
        ('"other"', False),
        (f"W/{ETAG}", False),  # strong comparison
        (formatdate(MODIFIED_S, usegmt=True), True),
        (formatdate(MODIFIED_S + 1, usegmt=True), False),
        (formatdate(MODIFIED_S - 1, usegmt=True), False),
        ("nonsense", False),
    ],
)
def test_if_range_other_version_sends_whole(if_range: str, honoured: bool) -> None:
    assert chosen("bytes=0-9", if_range=if_range) == ((0, 10) if honoured else None)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"if-none-match": ETAG}, True),
        ({"if-none-match": f"W/{ETAG}"}, True),  # weak comparison
        ({"if-none-match": f'"x", {ETAG}'}, True),
        ({"if-none-match": "*"}, True),
        ({"if-none-match": '"x"'}, False),
        ({"if-none-match": "a1"}, False),
        ({"if-modified-since": formatdate(MODIFIED_S, usegmt=True)}, True),
        ({"if-modified-since": formatdate(MODIFIED_S + 9, usegmt=True)}, True),
        ({"if-modified-since": formatdate(MODIFIED_S - 1, usegmt=True)}, False),
        ({"if-modified-since": "Tue Nov 14 22:13:20 2023"}, True),  # asctime form
        ({"if-modified-since": "yesterday"}, False),
        ({"if-modified-since": "Mon, 99 Foo 99999 99:99:99 GMT"}, False),
        # If-None-Match decides alone where it stands.
        ({"if-none-match": '"x"', "if-modified-since": formatdate(MODIFIED_S, usegmt=True)}, False),
    ],
)
def test_not_modified(headers: dict[str, str], expected: bool) -> None:
    assert not_modified(headers, ETAG, MODIFIED_S) is expected


def test_not_modified_generated_document_never_is() -> None:
    assert not not_modified({"if-none-match": "*"}, None, None)
    assert not not_modified({"if-modified-since": formatdate(MODIFIED_S, usegmt=True)}, None, None)


@given(
    value=st.one_of(
        st.text(max_size=30),
        st.from_regex(r"\Abytes=[0-9]{0,5}-[0-9]{0,5}\Z"),
    ),
    size=st.integers(0, 2000),
)
def test_range_any_header_gives_part_of_the_document_or_nothing(value: str, size: int) -> None:
    try:
        part = selected_range({"range": value}, size, ETAG, MODIFIED_S)
    except Unsatisfiable:
        return
    if part is not None:
        offset, length = part
        assert 0 <= offset < offset + length <= size


@given(st.text(max_size=60))
def test_dates_any_text_is_read_or_ignored(text: str) -> None:
    not_modified({"if-modified-since": text}, ETAG, MODIFIED_S)
    selected_range({"range": "bytes=0-1", "if-range": text}, 10, ETAG, MODIFIED_S)
