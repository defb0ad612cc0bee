"""Where results go: C-STORE, STOW-RS and signed callbacks, each with its kinds of object, its retries and its dead letters.

A destination is described by the settings; sending is one call that either works, fails for now, or fails for good.
"""
