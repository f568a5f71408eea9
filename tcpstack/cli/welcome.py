"""The page that the HTTP server shows when it was given no directory."""

from __future__ import annotations

WELCOME_PAGE = b"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>tcpstack</title>
<style>body { max-width: 38em; margin: 3em auto; font-family: sans-serif; line-height: 1.5 }</style>
<h1>It works, and it is TCP in Python</h1>
<p>This page came to you from <b>tcpstack</b>: a complete TCP that lives in a Python process. Your side of
this connection is your kernel's TCP, as always. The other side is not: each segment that carried this page
was made by a Python program that owns an IP address behind a TUN device.</p>
<p>Give the server a directory to show (<code>--dir DIR</code>), or ask it to print the conversation as it
happens (<code>-v</code>).</p>
</html>
"""
