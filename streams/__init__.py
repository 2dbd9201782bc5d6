"""The keylane framework. It knows no job or event by name: those live in ``consumers`` and are discovered."""
