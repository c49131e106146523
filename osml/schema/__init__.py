"""The YAML schema: strict, typed, every key described, every problem reported with file:line, all at once."""
