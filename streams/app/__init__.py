"""Where everything is put together: each file wires one kind of process from settings, and nothing else does."""
