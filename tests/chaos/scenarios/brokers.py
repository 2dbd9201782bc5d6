"""Brokers that are killed, lead no more, or stand still; workers must come back by themselves."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import psutil
from aiokafka.admin import AIOKafkaAdminClient

from tests.chaos.recovery import Recovery
from tests.chaos.run import Run, Size, small
from tests.chaos.scenario import Scenario
from tests.eventually import eventually

if TYPE_CHECKING:
    from tests.chaos.scenario import Outcome
    from tests.chaos.stage import Stage


async def kill(stage: Stage, size: Size) -> Outcome:
    """The only broker dies and comes back, again and again."""
    async with Run(stage, "broker-kills", size) as run:
        recovery, lives = Recovery(run), {stage.kafka.process(0).pid}
        await run.warm()
        for _ in range(size.times):
            began = time.time()
            stage.kafka.kill(0)
            await stage.kafka.revive(0)
            lives.add(stage.kafka.process(0).pid)
            await recovery.watch(began)
            await asyncio.sleep(size.every)
        return await recovery.outcome(f"kill -9 of the broker and its restart, {size.times} times", len(lives) - 1)


async def leader(stage: Stage, size: Size) -> Outcome:
    """Of three brokers the one that leads a partition dies; the others take over, later it is started again."""
    async with Run(stage, "leader-kills", size) as run:
        recovery, moved = Recovery(run), 0
        await run.warm()
        for number in range(size.times):
            place = f"jobs.{run.config.queue}", number % size.partitions
            victim = await _leader(stage.kafka.direct, *place)
            began = time.time()
            stage.kafka.kill(victim)
            await recovery.watch(began)
            await asyncio.sleep(size.every)
            moved += await _leader(stage.kafka.direct, *place) != victim
            await stage.kafka.revive(victim)
            await _in_sync(stage.kafka.direct, stage.brokers)
        return await recovery.outcome(f"kill -9 of a partition's leader among 3 brokers, {size.times} times", moved)


async def freeze(stage: Stage, size: Size) -> Outcome:
    """The only broker stands still for a while."""
    async with Run(stage, "broker-frozen", size) as run:
        recovery, stood = Recovery(run), 0
        await run.warm()
        for _ in range(size.times):
            began, broker = time.time(), stage.kafka.process(0)
            broker.send_signal(signal.SIGSTOP)
            await asyncio.sleep(size.length)
            stood += broker.status() == psutil.STATUS_STOPPED
            broker.send_signal(signal.SIGCONT)
            await recovery.watch(began)
            await asyncio.sleep(size.every)
        return await recovery.outcome(f"SIGSTOP of the broker for {size.length:.0f} s, {size.times} times", stood)


async def _leader(servers: str, topic: str, partition: int) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return next(int(each["leader"]) for each in described["partitions"] if each["partition"] == partition)


async def _in_sync(servers: str, replicas: int) -> None:
    """Wait until every partition has all its replicas again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()

    async def all_there() -> bool:
        described = await admin.describe_topics()
        return all(len(each["isr"]) == replicas for topic in described for each in topic["partitions"])

    try:
        await eventually(all_there, within=60)
    finally:
        await admin.close()


KILL = Scenario(
    name="broker-kills",
    play=kill,
    long=Size(times=20, every=5.0),
    short=small(times=1, every=1.0),
    breaks_broker=True,
)
LEADER = Scenario(
    name="leader-kills",
    play=leader,
    long=Size(times=6, every=5.0),
    short=small(times=1, every=1.0, workers=1),
    brokers=3,
    breaks_broker=True,
)
FREEZE = Scenario(
    name="broker-frozen",
    play=freeze,
    long=Size(times=2, every=10.0, length=30.0),
    short=small(times=1, every=1.0, length=4.0),
    breaks_broker=True,
)
