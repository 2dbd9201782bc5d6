"""The contracts: one folder per event or job payload (``v1.avsc``, ``model.py``), the codec and the registry client."""
