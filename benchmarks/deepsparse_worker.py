"""Runs an ONNX file with DeepSparse in the Python that has it, and times it on request of inference.py.

    python deepsparse_worker.py MODEL.onnx INPUT.npy THREADS

Nothing but NumPy and DeepSparse is needed, so that any Python that DeepSparse supports will do. Each line of
standard input is a request, answered by one line of JSON on standard output: "turn SECONDS" by the mean seconds of
a call, "output FILE" after writing what the network returns to an .npy file. The first line of all says the version.
Between requests the process waits for a line and computes nothing.

DeepSparse has reached the end of its life and its licence allows evaluation only, so it is in no environment of this
project: the protocol was tried with an engine of the same interface, DeepSparse itself was not.
"""

from __future__ import annotations

import json
import os
import sys

from turns import turn


def main() -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes where it mixes with no answer

    import deepsparse  # type: ignore[import-not-found]
    import numpy as np

    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    path, images, threads = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])
    engine = deepsparse.compile_model(path, batch_size=len(images), num_cores=threads)
    answer(deepsparse.__version__)
    for line in iter(sys.stdin.readline, ""):  # iterating over the file would read ahead
        request, _, argument = line.strip().partition(" ")
        if request == "turn":
            answer(turn(lambda: engine.run([images]), float(argument)))
        elif request == "output":
            np.save(argument, engine.run([images])[0])
            answer(argument)


if __name__ == "__main__":
    main()
