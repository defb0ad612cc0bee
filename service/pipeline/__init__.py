"""The one path from files to an outcome: expand, inspect, route, check, infer, compose maps; and the queue that runs it.

Every entrance uses it, so every entrance gives the same answer. Stages (`lung`, `crops`, `retina`) do not know each other.
"""
