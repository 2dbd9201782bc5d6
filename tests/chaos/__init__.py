"""Real faults on real processes: every effect is noted by an outside ledger, and the proof reads nothing else."""
