"""Every plant by name."""

from __future__ import annotations

from override_gap.probes.organism.plants.blind import BLIND
from override_gap.probes.organism.plants.content import CONTENT
from override_gap.probes.organism.plants.layerwise import LAYERWISE
from override_gap.probes.organism.plants.parts import PARTS
from override_gap.probes.organism.plants.plant import Plant
from override_gap.probes.organism.plants.pushes import PUSHES
from override_gap.probes.organism.plants.strength import STRENGTH

PLANTS: dict[str, Plant] = {plant.name: plant for plant in (*STRENGTH, *CONTENT, *BLIND, *PUSHES, *PARTS, *LAYERWISE)}
