"""`python -m lra.cost`: the cost curves of a sweep, from its records.

points     a row a point and phase
growth     exponents, crossings, ratios
table      the curves as a table in the terminal
"""
