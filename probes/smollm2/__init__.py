"""A hypernetwork for a real model, SmolLM2-135M-Instruct, trained on plain-English statements of many relations.

fetch.py              downloading and converting the base model
made_up_names.py      made-up entities by kind, and which names are held out of training
facts.py              objects by kind, and facts of the real world from open data packages
known_facts.py        which real facts the base knows, and which it holds weakly
statements.py         training documents with their questions, sampled from relations.toml
training_data.py      training documents as batches of tensors
packing.py            short texts packed into few rows, and the base's layers run on them
hypernetwork.py       document -> low-rank update of the upper down projections
training.py train.py  loss and optimisation; training from the command line
evaluate.py load.py   accuracies on held-out statements; reading a trained hypernetwork from its folder
"""
