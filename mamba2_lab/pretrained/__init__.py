"""The models in the box, one folder each, and the scripts that make them and what stands beside them.

train.py        makes a model of the box, by its recipe, and its card
tune.py         tries a change of a recipe
sweep.py        one small model at several learning rates, for notebook 08
comparison.py   the table of what everyone needs for the same held-out files
recipes.py      shape, text, tokenizer and training of each model
provenance.py   what every record says of how it was made
completions.py  whether what a model writes parses
card.py         the page of a model
architectures.py  six architectures of medium's size, trained alike; architecture_table.py  what became of them
copying.py      whether a model recalls tokens in an order that no text has
parity.py       whether a mixer counts modulo two
precisions.py   what weights in fewer bits take, and what they cost in bits per byte
"""
