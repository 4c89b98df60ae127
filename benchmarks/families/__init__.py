"""Families: whether tiny random models of many architectures are read right, and what is refused and why."""
