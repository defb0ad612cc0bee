"""Response maps of one finding: composition (CLEAR, two-sided), pictures with legends, arrays to take away.

Plain numpy and Pillow; knows nothing of networks, requests or files other than its own npz.
"""
