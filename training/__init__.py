"""Everything that learns or experiments (torch). Exports model bundles into models/.

Imports `models`, never `service`.
"""
