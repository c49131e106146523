"""The run directory: identity, resume, atomic writes, events, stored predictions."""
