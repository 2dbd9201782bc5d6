"""Every scenario, in the order of the report."""

from __future__ import annotations

from tests.chaos.scenarios import brokers, kills, losses, network, restarts, zombies

SCENARIOS = (
    kills.SCENARIO,
    brokers.KILL,
    brokers.LEADER,
    brokers.FREEZE,
    zombies.SCENARIO,
    network.KAFKA,
    network.REDIS,
    network.SQL,
    restarts.DRAIN,
    restarts.ROLLING,
    losses.OFFSETS,
    losses.HEAD,
    losses.REDIS,
)
