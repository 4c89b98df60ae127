"""`python -m override_gap.probes.smollm2`: fetch SmolLM2 once."""

from override_gap.probes.smollm2.fetch import main

main()
