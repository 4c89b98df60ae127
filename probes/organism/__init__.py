"""The organism: a small world, a language model that has read about it, and a hypernetwork trained on that model.

A diagnosis can be checked only where the truth is known. Here it is: how often each fact was read, which documents
contradict it, which updates were spoilt and how.

    language.py      made-up words and the sentences that state or ask a fact
    world.py         entities, relations, objects, how often each fact is stated; what is kept for the examination
    corpus.py        what the base reads
    tokens.py        a word-level tokenizer
    base.py          a Llama of half a million parameters, and its training
    hypernetwork.py  document -> low-rank update of every down projection
    lessons.py       what the hypernetwork is taught
    teach.py         its training
    items.py         the examination: novel, combination, conflict and retention
    faults.py        the hypernetwork's updates, spoilt in known ways
    evaluate.py      the figures an organism is held to
    train.py load.py all of it from a seed; reading it back
"""
