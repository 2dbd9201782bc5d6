"""The one error of the embedded stack: a sentence for the operator."""

from __future__ import annotations


class StackError(Exception):
    """Something keeps the stack from running; the message says what, and what to do."""


class PortTakenError(StackError):
    """Another process listens on a port the stack was to use."""


class CancelledError(StackError):
    """The start was given up because another part failed or the user asked to stop."""
