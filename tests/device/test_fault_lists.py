"""Lists of rules as people write them, and where their chance comes from."""

from __future__ import annotations

import re
import traceback

import pytest

from tcpstack import Simulation
from tcpstack.device.fault_lists import rules_of
from tcpstack.device.faults import SYN, Drop, FaultRuleError, Loss
from tcpstack.sim.network import Network


def test_rules_in_words_draw_from_the_seed_unless_they_have_their_own():
    words = ["loss 2%", "loss 2%", "loss 2% seed=4", "drop syn", "delay 5ms", "delay 5ms jitter 1ms"]
    texts = [rule.text for rule in rules_of([*words, Drop(SYN), Loss(0.02)], 100, "a")]
    drawn = [re.sub(r"seed=\d+", "seed=N", text) for text in texts]
    assert drawn[:2] == ["loss 2% seed=N"] * 2
    assert texts[2:5] == ["loss 2% seed=4", "drop syn", "delay 5ms"]
    assert drawn[5] == "delay 5ms jitter 1ms seed=N"
    assert texts[6:] == ["drop syn", "loss 2% seed=0"]


def test_draws_hang_on_the_seed_the_name_and_the_position_and_on_nothing_else():
    def text(seed: int, name: str, position: int) -> str:
        return rules_of([*["drop syn"] * position, "loss 2%"], seed, name)[position].text

    assert text(1, "a", 0) == text(1, "a", 0)
    assert len({text(1, "a", 0), text(2, "a", 0), text(1, "b", 0), text(1, "a", 1)}) == 4


def test_one_rule_needs_no_list():
    assert [rule.text for rule in rules_of("drop syn", 0, "a")] == ["drop syn"]
    assert rules_of(Drop(SYN), 0, "a") == [Drop(SYN)]


@pytest.mark.parametrize("world", [Network, Simulation])
def test_hosts_of_networks_and_simulations_draw_alike(world: type[Network] | type[Simulation]):
    host = world(3).host("a", "10.0.0.1/24", faults=["loss 2%"])
    device = host._device if world is Network else host.device
    assert device._chain._stages[0].rule.text == rules_of("loss 2%", 3, "a")[0].text


@pytest.mark.parametrize("world", [Network, Simulation])
def test_wrong_rule_is_told_in_two_steps_and_points_at_the_word(world: type[Network] | type[Simulation]):
    with pytest.raises(FaultRuleError) as caught:
        world().host("a", "10.0.0.1/24", faults=["drop syn", "lost 2%"])
    steps = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)][1:]
    assert steps == ["host", "rules_of"]
    assert caught.value.__suppress_context__
    assert str(caught.value).splitlines()[1:] == ["  lost 2%", "  ^^^^"]
