"""The organism: a small made-up world, a language model trained on text about it, and a hypernetwork for that model.

A diagnosis can be checked only where the truth is known. Here it is known: how often each fact occurs in the training
corpus, which documents contradict it, and which updates were corrupted and how.

    language.py       made-up words, and the sentences that state or ask a fact
    world.py          entities, relations, objects, the frequency of each fact; which facts are held out for evaluation
    corpus.py         the base model's training corpus
    tokenizer.py      a word-level tokenizer
    base.py           the base model, a Llama of half a million parameters, and its training
    hypernetwork.py   document -> low-rank update of every down projection
    training_data.py  training batches of the hypernetwork
    training.py       its loss and training loop
    examination.py    evaluation items: novel, combination, conflict and retention
    faults.py         the hypernetwork's updates, corrupted in known ways
    evaluate.py       accuracies on the examination, and the least values that an organism must reach
    train.py load.py  training an organism from a seed; reading it from its folder
"""
