"""Adapters applied to a live model at a policy's gains, for forward passes and `generate`, as an audit measured them."""
