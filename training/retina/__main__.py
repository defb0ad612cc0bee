"""`python -m training.retina prepare|train|evaluate|export`."""

import sys

from training.commands import Experiment, main
from training.retina.data import prepare
from training.retina.export import NAME, export
from training.retina.train import Plan, train

if __name__ == "__main__":
    sys.exit(main(Experiment("retina", NAME, Plan(), prepare, train, export)))
