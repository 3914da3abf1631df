"""`python -m lra.plot`: every figure of a results folder, from its records, without torch.

render    which figures the records give, and as what bytes
bubble    accuracy over speed, area for memory (after figure 3 of Tay et al. 2021), or what is chosen
choice    what may stand on its axes
chosen    what is drawn of a part of the records
race      accuracy over the minutes of a race
lengths   time and memory over length, with fitted exponents; crossing lengths
exams     accuracy by exam with intervals and floors; learning curves
heat      models by exams of abilities
capacity  how much models hold, over the state that they keep
profiles  accuracy over distance; s at other lengths
style     what they share: colours, marks, notes, files
places    where figures lie
labels    where labels go
forked    half of the work done by a second process
"""
