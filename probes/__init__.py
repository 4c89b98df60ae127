"""Everything that runs a model: subjects, adapters as hooks, and readings, one file per probe."""
