"""Plants: adapters that succeed or fail in a known way, made from definitions, for the organism's world or a real model.

plant.py      a plant, and what is known of it: the right label, the right cause of each item
context.py    what planting reads: items, the base's states on their questions, the right adapters
edits.py      edits of the last layer whose effect is known in closed form
strength.py   the right adapters times a factor
content.py    adapters that hold nothing of their document
blind.py      adapters that know the question and nothing of the document
pushes.py     pushes of known size: flipping late, at a price, behind a third token, never
layerwise.py  content in some layers, junk in the others: a choice of layers is better than uniform scaling
parts.py      right for some items and wrong for others
items.py      the items that plants are audited on, also fresh ones of the same world
catalogue.py  every plant by name
"""
