"""What the readers' own ratings of a nodule tell about their score of malignancy: an upper mark for any network.

Whoever rated spiculation, calcification and the like knew what score of malignancy he gave. A network sees pixels only, and is
measured against the same scores, of which many are one reader's alone.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from training.lung.data import Nodule
from training.lung.train import ratings

TREES, LEAST = 300, 8


def from_ratings(nodules: list[Nodule]) -> np.ndarray:
    """Mean malignancy that a random forest expects from the seven other ratings and the diameter, shape (n,).

    Each nodule's from the nodules of the other nine folds.
    """
    x, fold = np.stack([ratings(n) for n in nodules]), np.array([n.fold for n in nodules])
    score, expected = np.array([n.malignancy for n in nodules]), np.zeros(len(nodules))
    for k in np.unique(fold):
        forest = RandomForestRegressor(TREES, min_samples_leaf=LEAST, random_state=0)
        expected[fold == k] = forest.fit(x[fold != k], score[fold != k]).predict(x[fold == k])
    return expected
