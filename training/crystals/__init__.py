"""Crystal structures from their diffraction fingerprint (thesis ch. 3; Ziletti et al. 2018, Nature Communications 9, 2775).

``prototypes`` and ``defects`` make structures, ``diffraction`` their fingerprint, ``networks`` is table 3.1, ``robustness``
table 3.2 beside spglib and template matching, ``transitions`` fig. 3.4, ``landmarks`` fig. 3.5, ``speed`` the cost.
"""
