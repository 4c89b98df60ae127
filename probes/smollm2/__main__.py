"""`python -m probes.smollm2`: fetch SmolLM2 once."""

from probes.smollm2.fetch import main

main()
