"""The pure core: lanes, levels, offsets, retry, flow, replay. No I/O, clock, randomness or logging in here."""
