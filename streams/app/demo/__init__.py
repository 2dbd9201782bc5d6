"""The demonstration: a sample load with faults through the whole system, and the proof of what became of it."""
