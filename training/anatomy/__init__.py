"""Anatomy (thesis ch. 3): what shallow and deep networks look at when they tell body parts apart, and when they learn to."""
