"""`python -m tcpstack` is the command `tcpstack`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
