"""Running model bundles with ONNX Runtime, and choosing the bundle that answers for an input.

Knows bundles and instances' headers; nothing of files, HTTP or results.
"""
