"""SISC: lung-nodule malignancy from CT. `python -m training.lung --help`."""
