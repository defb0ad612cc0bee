"""Digits (thesis ch. 5): MNIST and SVHN networks, CLEAR galleries, and the accuracy with only and without the strong features."""
