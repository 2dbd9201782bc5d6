"""Dead letters as operators see them: their entries, the state each is in, and the replays and discards of them.

Depends on the ports only; the command line and the gateway hand in what implements them.
"""
