"""Conditions of a run, and methods in several runs, compared on the same items."""
