"""`python -m experiments [NAME [options]]`."""

import sys

from experiments import _run

if __name__ == "__main__":
    sys.exit(_run.main(sys.argv[1:]))
