"""Names of connections as octets: none is lost, and no two are alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.segment import FourTuple
from tcpstack.stack.flow_key import pack_flow, unpack_flow

ports = st.integers(0, 65535)


def flows_of(size: int) -> st.SearchStrategy[FourTuple]:
    address = st.binary(min_size=size, max_size=size)
    return st.tuples(address, ports, address, ports)


flows = flows_of(4) | flows_of(16)


@given(flows)
def test_name_comes_back_from_its_octets(flow: FourTuple) -> None:
    assert unpack_flow(pack_flow(flow)) == flow


@given(flows, flows)
def test_other_names_have_other_octets(one: FourTuple, other: FourTuple) -> None:
    assert (pack_flow(one) == pack_flow(other)) == (one == other)


def test_octets_are_few() -> None:
    assert len(pack_flow((bytes(4), 1, bytes(4), 2))) == 12
    assert len(pack_flow((bytes(16), 1, bytes(16), 2))) == 36
