"""Pictures that occur in IDRiD more than once, found by comparing all with all.

They are named as ``train/IDRiD_001.jpg`` (graded photographs, 413 and 103 of ``test``) and ``train/IDRiD_01.jpg`` (lesion images,
54 and 27). Whether two photographs are of one patient is not published.
"""

from __future__ import annotations

IDRID_TWINS = """
    102 366 369   - 082 196 029 207 t91 224   -   - 231 232 236 237 239 132 242 245 246 t88 247 248   -   - 254
    261 263   - t89   - 272 277 278 280 281 185   - 282 283 284 294 300   - 306 064 053 308 048 310 311 012 314
      -   -   - 356 128   -   - 073 059   -   -   - 027   - 028   - 066 328 020 329   - 313 057 058 309   - 186
"""
"""Number of the graded photograph that is the same as lesion image 1 to 81; t: of the test split."""


def idrid_duplicates() -> set[str]:
    """Grading-train photographs left out: the same picture occurs again (with another grade, or in the test split).

    118 = test 064, 021 = 391, 028 = 327 with other grades; 045 = 333, 073 = 375, 079 = 279 with the same: one stays.
    """
    return {f"train/IDRiD_{number}.jpg" for number in ("118", "021", "391", "028", "327", "333", "375", "279")}


def idrid_twins() -> dict[str, str]:
    """The graded photograph that a lesion image is, for those that have one."""
    found = {}
    for k, number in enumerate(IDRID_TWINS.split(), 1):
        if number != "-":
            graded = f"test/IDRiD_0{number[1:]}.jpg" if number.startswith("t") else f"train/IDRiD_{number}.jpg"
            found[f"{'train' if k <= 54 else 'test'}/IDRiD_{k:02d}.jpg"] = graded
    return found


def idrid_left_out() -> set[str]:
    """Graded photographs that are not used: duplicates, and lesion-test images, so that lesion figures stay honest."""
    return idrid_duplicates() | {twin for name, twin in idrid_twins().items() if name.startswith("test/")}
