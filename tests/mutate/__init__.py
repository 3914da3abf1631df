"""Would the tests see it? Faults made mechanically, drawn by a seed, each run against the tests that reach its line.

    pip install -e '.[dev,mutation]'
    python -m tests.mutate                       # 200 mutants; what is done already is not done again
    python -m tests.mutate --only lra/marks      # of the same sample those in these places

`operators` what can be done to a line: cosmic-ray's, and four of ours; `sites` where, and where not; `sample` which,
by a hash of the line, so that an edit elsewhere changes nothing; `cover` which tests reach which line; `worker` a
process that has imported what is slow to import and forks for each run; `trial` one mutant's verdict; `equivalent.json`
the survivors that no test can tell from the original, each with a sentence of why.
"""
