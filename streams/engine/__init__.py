"""The asyncio shell around the core: it reads, runs, writes and commits, and has no policy of its own."""
