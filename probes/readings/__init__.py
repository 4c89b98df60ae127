"""What is measured on a model with and without its adapters, one file per probe."""
