"""What is read of a model and its adapters, one file per probe."""
