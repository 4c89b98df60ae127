"""The export kit: one file that writes adapters where a method lives, and a script for each method that calls it."""
