"""On the engine a command is read, never run: sysctls that it has, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcpstack.core.config import Config
from tcpstack.drill.script import Unsupported
from tcpstack.drill.sysctls import Sysctls

MEBIBYTE = 1024 * 1024


def config_after(text: str, directory: Path = Path("/nonexistent")) -> Config:
    sysctls = Sysctls(Config(), directory)
    sysctls.run(text)
    return sysctls.config


def test_what_the_engine_has_an_equivalent_for_is_set() -> None:
    assert config_after("sysctl -q net.ipv4.tcp_fin_timeout=2").fin_wait_2_ns == 2_000_000_000
    keepalive = "net.ipv4.tcp_keepalive_time=9 net.ipv4.tcp_keepalive_intvl=8 net.ipv4.tcp_keepalive_probes=7"
    assert config_after(f"sysctl -q {keepalive}").keepalive_settings == (False, 9_000_000_000, 8_000_000_000, 7)
    assert config_after("sysctl -w net.ipv4.tcp_window_scaling=0").window_scaling is False
    assert config_after("sysctl -q net.ipv4.tcp_sack=0 net.ipv4.tcp_timestamps=1").sack is False
    assert config_after("sysctl -q net.ipv4.tcp_sack=0 net.ipv4.tcp_recovery=0 net.ipv4.tcp_frto=0").sack is False
    assert config_after("sysctl -q net.ipv4.tcp_sack=1 net.ipv4.tcp_timestamps=0").timestamps is False
    assert config_after("sysctl -w net.ipv4.tcp_slow_start_after_idle=0").slow_start_after_idle is False
    assert config_after("sysctl -q net.ipv4.tcp_congestion_control=reno").congestion == "newreno"
    assert config_after("sysctl -e -q net/ipv4/tcp_rto_max_ms=5000").rto_max_ns == 5_000_000_000
    assert config_after('sysctl -q net.ipv4.tcp_rmem="4096 9 $((2*1024*1024))"').receive_buffer_bytes == 2 * MEBIBYTE


@pytest.mark.parametrize(
    "text",
    [
        "../common/defaults.sh",
        "./defaults.sh\n  ../common/set_sysctls.py /proc/sys/net/ipv4/tcp_ecn=0\n",
        "/tmp/sysctl_restore_${PPID}.sh",
        "# a comment\n\nsysctl -q net.ipv4.tcp_recovery=1 net.ipv4.tcp_ecn=0",
        'sysctl -q net.ipv4.tcp_wmem="4096 50000 4194304" # a comment',
        "./set_sysctls.py /proc/sys/net/ipv4/tcp_min_tso_segs=1 \\\n  /proc/sys/net/ipv4/tcp_wmem='1 2 3'",
        "ethtool -K tun0 tso off\ntc qdisc add dev tun0 root pfifo\nip tcp_metrics flush all",
    ],
)
def test_what_it_does_anyway_or_has_no_part_in_is_accepted(text: str) -> None:
    config_after(text)


def test_defaults_are_those_of_the_corpora() -> None:
    config = config_after("./defaults.sh")
    assert (config.receive_buffer_bytes, config.slow_start_after_idle) == (15 * MEBIBYTE, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rm -rf /", "`rm -rf /`: no command is run on the engine but sysctl; --kernel runs it"),
        ("sysctl -q net.ipv4.tcp_sack=0 && reboot", "'&&' is no NAME=VALUE"),
        ("sysctl net.ipv4.tcp_ecn=1", "the engine is as with tcp_ecn=0"),
        ("sysctl net.ipv4.tcp_dsack=0", "the engine is as with tcp_dsack=1"),
        ("sysctl net.ipv4.tcp_timestamps=yes", "'yes' is no number"),
        ("sysctl net.ipv4.tcp_frto=0", "with SACK the engine is as with tcp_frto=1, with"),
        ("sysctl net.ipv4.tcp_nosuch=1", "the engine has nothing like tcp_nosuch"),
        ("sysctl net.ipv4.tcp_congestion_control=vegas", "the engine's congestion control is"),
        ("sysctl net.ipv4.tcp_fin_timeout=soon", "'soon' is no number"),
        ("sysctl net.ipv4.tcp_rmem=", "'' is no number"),
        (f"sysctl net.ipv4.tcp_fin_timeout={'9' * 5000}", "is no number"),
        ("sysctl net.ipv4.tcp_keepalive_probes=0", "keepalive_probes must be 1 or more, not 0"),
        (f"sysctl net.ipv4.tcp_keepalive_time={'9' * 18}", "keepalive_idle_ns must be a positive number"),
        ("sysctl net.ipv4.tcp_rto_max_ms=5", "must obey 0 < rto_min_ns <= rto_initial_ns <= rto_max_ns"),
        ("tc qdisc add dev tun0 root pfifo limit 0", "the engine has no queue that drops, delays or paces"),
        ("tc qdisc replace dev tun0 root fq", "the engine has no queue that drops, delays or paces"),
        ("tc qdisc add dev tun0 root netem delay 10ms", "the engine has no queue that drops, delays or paces"),
        ("./nosuch.sh", "no command is run on the engine"),
        ("echo 'never closed", "no command is run on the engine"),
    ],
)
def test_everything_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(Unsupported) as caught:
        config_after(text)
    assert words in str(caught.value)


def test_a_file_that_names_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rec.sh").write_text("./rec.sh\n")

    with pytest.raises(Unsupported, match="files name one another 8 deep"):
        config_after("./rec.sh", tmp_path)


def test_a_file_of_sysctls_is_read(tmp_path: Path) -> None:
    (tmp_path / "set.sh").write_text("#!/bin/sh\n# why\nsysctl -q net.ipv4.tcp_fin_timeout=3\n")
    (tmp_path / "other.sh").write_text("touch /tmp/x\n")

    assert config_after("./set.sh", tmp_path).fin_wait_2_ns == 3_000_000_000
    with pytest.raises(Unsupported):
        config_after("./other.sh", tmp_path)
