"""CLEAR-DR: diabetic-retinopathy grade 0-4 from fundus photographs. `python -m training.retina --help`."""
