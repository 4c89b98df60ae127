"""Everything that runs a model: subjects, adapters as hooks, and one file a probe."""
