"""One program per system under test, each run in a process of its own with a ``Task``; peers import no keylane."""
