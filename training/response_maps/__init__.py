"""Response maps (thesis eqs. 3.1-3.3, 4.1-4.2, 5.1-5.6): the reference in PyTorch and the ONNX graph that returns them.

``layers`` folds a trained network, ``reference`` follows the signal back, ``compose`` makes CLEAR and two-sided maps,
``onnx_graph`` (with ``nodes`` and ``way_back``) writes prediction and maps, of one network or an ensemble, as one graph,
``evidence`` measures what the maps are worth.
"""
