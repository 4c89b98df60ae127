"""How the cost of an audit compares with the forward passes it needs, and with other tools: as ratios of sides run in turn."""
