"""`python -m tcpstack` is the command `tcpstack`, whose entry point is here too."""

import signal
import sys


def command() -> int:
    """Run the command line of this process. Returns the exit status.

    Ctrl-C while Python loads us, or while it ends, kills the process as it would any other: there is nothing to tidy
    up, and nobody wants to read where it was.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main

    signal.signal(signal.SIGINT, interrupt)
    try:
        return main()
    except KeyboardInterrupt:
        return 130
    finally:
        if interrupt is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(command())
