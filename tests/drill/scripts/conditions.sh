#!/bin/sh
# What Linux is set to, so that both sides have the same features. On the engine this is read and not executed:
# it refuses a setting that it does not match.
sysctl -q net.ipv4.tcp_congestion_control=reno
# Linux sends SYNs a second apart before it backs off, since 6.5.
sysctl -q net.ipv4.tcp_syn_linear_timeouts=0
# Loss recovery by RFC 6582 alone: no RACK, no tail loss probe, no F-RTO.
sysctl -q net.ipv4.tcp_sack=0
sysctl -q net.ipv4.tcp_recovery=0 net.ipv4.tcp_early_retrans=0 net.ipv4.tcp_frto=0
# cwnd stays as it is when the application pauses.
sysctl -q net.ipv4.tcp_slow_start_after_idle=0
sysctl -q net.ipv4.tcp_ecn=0
