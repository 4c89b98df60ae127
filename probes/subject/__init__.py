"""A language model to audit: loading, wrapping, tokenising, and running it forward."""
