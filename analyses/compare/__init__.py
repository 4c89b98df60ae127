"""Conditions and methods compared on the same items."""
