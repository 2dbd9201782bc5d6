"""The embedded stack: a real Apache Kafka, Redis and PostgreSQL as child processes, without Docker, Java or root.

Public names: ``Stack`` (``streams.dev.stack``); ``attach`` and ``Addresses`` (``streams.dev.addresses``) for commands
that use a running stack but start none; ``StackError`` (``streams.dev.errors``); ``KafkaBroker``
(``streams.dev.kafka``) for brokers with further listeners.
"""
