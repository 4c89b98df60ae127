"""What to run in the hour when there is a GPU: checks, an audit there and here, and costs on the shapes of known models."""
