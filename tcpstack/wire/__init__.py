"""Bytes to segments and back: the codecs, the checksum, ICMP."""
