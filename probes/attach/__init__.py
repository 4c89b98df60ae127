"""Adapters on a live model: stacked per batch, added by hooks, removed without a trace."""
