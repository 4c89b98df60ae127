"""Bounds of KL(base || adapted) on unrelated questions and text, nats per token: what breaks a model, and what is affordable."""

BROKEN = 1.0
"""Above this mean KL the adapted model counts as broken (chosen on the organism's plants: bounds from 0.1 nats to none gave the
same labels)."""
AFFORDABLE = 0.25
"""Up to this a cost is affordable: a quarter of what counts as broken. On the organism, uniform scaling reaches it between gains
1.5 and 1.75, which change 4% and 8% of unrelated answers."""
