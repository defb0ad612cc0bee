"""The DICOM objects that carry an answer back into the PACS: one module an object kind, all from one `Report`.

Deterministic: the same images, weights and configuration give the same bytes, whichever entrance they came through.
"""
