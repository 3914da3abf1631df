"""`python -m lra.check`: does a model keep the contract, and what is it like?

subject    what is audited
contract   shapes, numbers, gradients, and who must not change whose answer
sight      what a model can see
readout    which positions can move an answer at all
divided    whether the gradient of a batch is that of its parts
short      what a run asks of its model before it trains
growth     claimed against fitted growth of time and memory
card       the points of the audit, and the card that they make
"""
