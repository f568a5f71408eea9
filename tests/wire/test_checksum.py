"""The Internet checksum against RFC 1071's own example, dpkt, and the plain loop over words."""

from __future__ import annotations

from dpkt import dpkt as dpkt_core
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.wire.checksum import VALID, checksum, complement, ones_complement_sum, pseudo_header

# Zeros and all-ones are where ones'-complement arithmetic has its corners: make them common.
octets = st.one_of(
    st.binary(max_size=64),
    # Long ones are folded before the remainder is taken.
    st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=64), st.integers(1, 1000)),
    st.lists(st.sampled_from([0x00, 0xFF]), max_size=32).map(bytes),
)


def sum_by_words(data: bytes) -> int:
    """RFC 1071 section 1 as written: 16-bit words, end-around carry."""
    total = 0
    for i in range(0, len(data), 2):
        total += int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_sum_of_the_example_in_rfc_1071_section_3() -> None:
    assert ones_complement_sum([bytes.fromhex("0001f203f4f5f6f7")]) == 0xDDF2


@given(octets)
def test_sum_equals_the_loop_over_words(data: bytes) -> None:
    assert ones_complement_sum([data]) == sum_by_words(data)


@given(octets)
def test_checksum_equals_dpkts(data: bytes) -> None:
    assert checksum([data]) == dpkt_core.in_cksum(data)


@given(st.lists(octets, max_size=6))
def test_sum_over_chunks_of_any_length_equals_sum_over_the_joined_octets(chunks: list[bytes]) -> None:
    assert ones_complement_sum(chunks) == sum_by_words(b"".join(chunks))


def test_sum_tells_no_data_and_zeros_from_a_sum_that_wraps_to_zero() -> None:
    assert ones_complement_sum([]) == 0
    assert ones_complement_sum([bytes(6)]) == 0
    assert ones_complement_sum([b"\xff\xff"]) == 0xFFFF
    assert ones_complement_sum([b"\x00\x01", b"\xff\xfe"]) == 0xFFFF
    assert checksum([bytes(6)]) == 0xFFFF
    assert checksum([b"\xff\xff"]) == 0


def test_sum_accepts_memoryviews_and_one_pass_iterables() -> None:
    data = bytes(range(1, 8))
    assert ones_complement_sum(part for part in (memoryview(data)[:3], data[3:])) == sum_by_words(data)


@given(st.binary(min_size=2, max_size=64).filter(lambda data: len(data) % 2 == 0))
def test_data_with_its_checksum_put_in_sums_to_valid(data: bytes) -> None:
    assert ones_complement_sum([data, checksum([data]).to_bytes(2, "big")]) == VALID


@given(st.lists(st.integers(0, 0xFFFF_FFFF), min_size=1).filter(any))
def test_complement_of_added_fields_equals_the_checksum_of_their_octets(fields: list[int]) -> None:
    packed = b"".join(field.to_bytes(4, "big") for field in fields)
    assert complement(sum(fields)) == checksum([packed])


def test_pseudo_header_v4_is_laid_out_as_rfc_9293_3_1_draws_it() -> None:
    assert pseudo_header(bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]), 0x0123) == bytes.fromhex(
        "0a090001 0a090002 00 06 0123"
    )


def test_pseudo_header_v6_is_laid_out_as_rfc_8200_8_1_draws_it() -> None:
    src, dst = bytes(range(16)), bytes(range(16, 32))
    assert pseudo_header(src, dst, 0x12345, 58) == src + dst + bytes.fromhex("00012345 000000 3a")
