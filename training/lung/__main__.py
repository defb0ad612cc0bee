"""`python -m training.lung prepare|train|evaluate|export`."""

import sys

from training.commands import Experiment, main
from training.lung.data import prepare
from training.lung.export import NAME, export
from training.lung.train import Plan, train

if __name__ == "__main__":
    sys.exit(main(Experiment("lung", NAME, Plan(), prepare, train, export)))
