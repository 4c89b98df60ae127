"""A hypernetwork on a real model: SmolLM2, plain-language statements over many relations, taught with retention."""
