"""`python3 -m tests.deadly_sound FILE NAME …`: the command line, where each process that meets the sound NAME dies.

Each death is a line in FILE.
"""

import os
import sys
from pathlib import Path

from cli import main
from cli.run import run

FILE, NAME = sys.argv[1:3]


def answer_jobs(jobs, model, options, reporter):
    """What a worker does, on a machine that dies of one sound."""

    def watched():
        for job in jobs:
            if Path(job.group.paths[0]).name == NAME:
                with Path(FILE).open("a") as file:
                    file.write("died\n")
                os._exit(1)
            yield job

    run.answer_jobs(watched(), model, options, reporter)


if __name__ == "__main__":
    run.answer_jobs = answer_jobs
    main.leave(main.main(sys.argv[3:]))
