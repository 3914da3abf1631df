"""The exams. Nothing here knows of `models` or `lra`.

A task is data plus facts about it, and costs nothing to construct: no file is read, nothing is
downloaded or generated before `split`, `fingerprint` or `prepare` is called. What `lra` uses:

    name          the config's name; `row` adds what departs from the standard exam
    vocab_size    tokens are integers in [0, vocab_size); 0 is padding and nothing else
    vocabulary    hash of the table from symbols to ids, fixed and literal
    max_len       L, the longest document in tokens
    num_classes   C
    documents     1, or 2 for a pair
    split(name)   "train" | "valid" | "test": a Split (sequence of Example with labels, lengths)
    answers       "sequence": one class an item; "token": classes at the positions that ask for one; "middle" or
                  "last": the same, answered out of the state at the middle (L // 2) or last real token alone
    collate(list of Example) -> Batch      tokens, explicit mask, labels
    loss(output, batch), scores(output, batch)   of a model's output; what is asked for, and to whom it belongs
    synthetic(size) -> Batch               of full length, to measure a step with
    fingerprint() a digest of the identity of the data, for the record
    rules()       floors: answers that need no model, by name

`lra.tasks.base.Task` implements what they share; `lra.tasks.base.DataError` carries one clear line for
the user.
"""
