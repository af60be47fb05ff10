"""Cases at random, seeded: what strangers may give to the program."""

import os

# A forked process makes OpenBLAS start its threads again, and it waits for itself where there is no memory for them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
