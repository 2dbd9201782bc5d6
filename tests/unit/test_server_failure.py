from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streams.dev.errors import PortTakenError
from streams.dev.server import failure

if TYPE_CHECKING:
    from pathlib import Path

KAFKA = """\
12:00 [main] ERROR kafka.Kafka$ - Exiting Kafka due to fatal exception
java.lang.RuntimeException: wrapped
\tat kafka.Kafka$.main(Kafka.scala:1)
Caused by: org.apache.kafka.common.KafkaException: the folder belongs to another cluster
\tat kafka.Kafka$.run(Kafka.scala:2)
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (KAFKA, "kafka did not start: the folder belongs to another cluster (see "),
        ("12:00 LOG:  starting\n12:00 FATAL:  could not read file\n", "kafka did not start: could not read file (see "),
        ("starting\n# Bad file format\n\n", "kafka did not start: # Bad file format (see "),
        ("", "kafka did not start: it wrote nothing (see "),
        ("java.io.IOException: No space left on device\n\tat Main\n", "kafka: the disk is full; free some space"),
    ],
)
def test_a_log_gives_the_cause_as_one_sentence(text: str, reason: str, tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text(text)
    told = str(failure("kafka", log))
    assert told.startswith(reason)
    assert "\n" not in told


def test_a_port_lost_to_another_process_can_be_told_from_other_faults(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("java.net.BindException: Address already in use\n")
    assert isinstance(failure("kafka", log), PortTakenError)
