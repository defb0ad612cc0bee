"""``/dicomweb``: store, search and retrieve instances, sources and results alike (DICOM PS3.18 chapter 10).

One module a transaction. Attributes are answered as DICOM JSON only; addresses are absolute, as the client reached us.
"""

from __future__ import annotations

from flask import Blueprint

from service.http.dicomweb import frames, metadata, qido, rendered, stow, wado

blueprint = Blueprint("dicomweb", __name__, url_prefix="/dicomweb")
for module in (stow, qido, wado, metadata, frames, rendered):
    blueprint.register_blueprint(module.blueprint)
