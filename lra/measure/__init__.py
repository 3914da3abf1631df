"""Speed and peak memory of one training step, in a process of its own.

One definition on CPU and CUDA (one process a measurement, a synthetic batch of full length):

step peak   the most bytes live in the framework's allocator during one full step (forward,
            backward, clip, optimizer), above what was live when the step began, after at least two
            unmeasured full steps, gradients set to None before
resident    bytes of the unique storages of parameters, buffers, optimizer state and batch
examples/s  batch size over the median time of the timed steps; warm-up is untimed
paces       rate of a small matrix product after each timed step (CPU only), to tell a slow hour of the
            machine from a slow model
conditions  threads, load, cores busy with other work, clock noise (lra.machine.watch); a measurement on
            a disturbed machine is made once more and, if that is disturbed too, marked
FLOPs       of one step, counted on the meta device by torch's FlopCounterMode: matrix products,
            triangular systems, convolutions and attention (as its plain formula, backward twice
            forward); FFT, softmax, norms, gathers and elementwise work count 0. Records of before
            28 November 2026 lack what was added in place (up to a fifth: Nystrom, Sinkhorn,
            Performer, Transformer-XL, Linear) and the systems of the delta rule

gauges     bytes, seconds and FLOPs of a step, in this process
child      the measuring process itself
session    the same as its parent sees it
alone      one measurement in a fresh process
turns      several, whose processes take turns
selftest   programs whose answer is known
"""
