"""What runs in the hospital: entrances, one pipeline, inference, response maps, results.

Imports `models` (the contract with training), never `training`, never torch.
"""

__version__ = "0.1.0"
