"""From a table to a typed, immutable cohort: reading, units, kit ranges, exclusions, coded checks, splits."""
