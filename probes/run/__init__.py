"""From a plan to a run folder: units, conditions, engines."""
