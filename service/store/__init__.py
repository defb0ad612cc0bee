"""What outlives a request: the database of analyses, the images they were made from, and the arrays they produced.

Knows records and errors only; used by the pipeline's queue and by the entrances.
"""
