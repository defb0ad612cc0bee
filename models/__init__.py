"""The contract between training and service: model bundles and the preprocessing both sides share.

Imports neither; needs numpy, Pillow, jsonschema and, to run a bundle, ONNX Runtime.
"""
