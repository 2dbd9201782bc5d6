"""``profiled.py FILE WORDS``: the command line of keylane, from SIGUSR1 on under cProfile, which writes to FILE."""

from __future__ import annotations

import cProfile
import signal
import sys

from streams.cli import main as keylane


def main() -> None:
    """Run it to its end."""
    file, *words = sys.argv[1:]
    sys.argv = ["keylane", *words]
    profile = cProfile.Profile()
    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    try:
        keylane()
    finally:
        profile.disable()
        profile.dump_stats(file)


if __name__ == "__main__":
    main()
