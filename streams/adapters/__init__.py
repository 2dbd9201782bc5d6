"""One file per dependency: what ``streams.ports`` asks for, done with a real server."""
