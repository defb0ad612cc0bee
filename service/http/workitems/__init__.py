"""``/dicomweb/workitems``: the worklist, UPS-RS (DICOM PS3.18 chapter 11, PS3.4 annex CC; IHE AI Workflow for Imaging).

One module a group of transactions. Work items that ask for what this service does are performed by `service.pipeline.performer`;
all others are kept for whoever claims them. Data sets are DICOM JSON only.

Deviation: event reports are not sent over a WebSocket (PS3.18 8.10.4), which this server cannot open, but are offered as
server-sent events at ``/dicomweb/subscribers/{aetitle}/events``; the answer to Subscribe names that address.
"""

from __future__ import annotations

from flask import Blueprint

from service.http.workitems import errors, search, subscribers, transactions

blueprint = Blueprint("workitems", __name__, url_prefix="/dicomweb")
for module in (transactions, search, subscribers):
    blueprint.register_blueprint(module.blueprint)
errors.install(blueprint)
