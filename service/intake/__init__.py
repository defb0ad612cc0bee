"""Hostile bytes in, trustworthy records out: limited child processes, series geometry, input checks, photograph quality.

All parsing of foreign bytes happens in `worker` processes; this side of the pipe handles only what it has checked.
"""
