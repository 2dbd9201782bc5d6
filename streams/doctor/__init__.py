"""Judges a set-up from what was found there; the looking is done in ``streams/app``, so every judgement can be tried.

Invariant: whatever is not sound says what to do about it.
"""
