"""Abilities: small generated exams with answers at positions, each of which asks one thing of a mixer.

    base      Ability: options, splits, what is known of chance, floor and ceiling
    items     Items: a stream without end to train on, and fixed sets that it never meets
    draw      Source: a batch of randomness, each item from its own key
    rules     what answers without a mixer
    NAME      the exam of that name: its rule in words, and what draws it

Everything is drawn by numpy, a batch at a time. An item has `max_len` tokens, all of them real; its answers stand
at positions, where no model that looks both ways may see them in the input.
"""
