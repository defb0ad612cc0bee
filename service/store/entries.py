"""What the worklist is read from: an entry a study, its series of images, and what each analysis answered, in few words.

All of it is derived from the archive and the analyses, changed in the transaction that changes those, and made anew when
`VERSION` is another. A photograph without a DICOM header has an entry of its own, which its re-runs share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    text,
    update,
)

from service.store import database as db
from service.store import rows
from service.store.finding import chunks
from service.store.search import Attributes, tag

VERSION = 1

entries = Table(
    "worklist",
    db.metadata,
    Column("key", String(80), primary_key=True),  # Study Instance UID, or "analysis:<id>"
    Column("study", String(64)),
    Column("changed", String(27), nullable=False),  # images came, an analysis was accepted, begun, ended
    Column("name", Text, nullable=False),
    Column("patient", String(64), nullable=False),
    Column("birth_date", String(16), nullable=False),
    Column("sex", String(16), nullable=False),
    Column("study_date", String(8), nullable=False),
    Column("study_time", String(16), nullable=False),
    Column("description", Text, nullable=False),
    Column("accession", String(64), nullable=False),
    Column("words", Text, nullable=False),  # what is searched in, without case
    Index("worklist_by_time", "changed", "key"),
)
series = Table(  # of images: those of results and of marks have no row
    "worklist_series",
    db.metadata,
    Column("series_uid", String(64), primary_key=True),
    Column("study_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("description", Text, nullable=False),
    Index("worklist_series_by_study", "study_uid", "modality"),
)
answers = Table(
    "worklist_answers",
    db.metadata,
    Column("analysis", String(32), ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(80), nullable=False, index=True),
    Column("outcome", String(16)),
    Column("digest", Text, nullable=False),  # JSON, see `digest`
)
_version = Table("worklist_version", db.metadata, Column("version", Integer, primary_key=True))

FIELDS = ("name", "patient", "birth_date", "sex", "study_date", "study_time", "description", "accession")
NO_IMAGES = ("SR", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "KO", "PR", "REG", "FID", "DOC", "PLAN", "AU")
"""Modalities of objects that are no images."""
_KEYWORDS = {
    "name": ("PatientName", 256),
    "patient": ("PatientID", 64),
    "birth_date": ("PatientBirthDate", 16),
    "sex": ("PatientSex", 16),
    "study_date": ("StudyDate", 8),
    "study_time": ("StudyTime", 16),
    "description": ("StudyDescription", 256),
    "accession": ("AccessionNumber", 64),
}
_E, _S, _N = entries.c, series.c, answers.c


# -- kept up to date --------------------------------------------------------------------------------------------------------


def filed(connection: Connection, archived: Iterable[Mapping[str, Any]]) -> None:
    """Instances were filed: rows of `database.archive`."""
    studies, found = _gathered(archived)
    for study in sorted(studies):  # in one order, so that two hosts do not wait for each other
        _note(connection, study, studies[study])
    db.add_new(connection, series, [found[uid] for uid in sorted(found)])


def _gathered(archived: Iterable[Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, str]]]:
    """Rows of `entries` and `series` for rows of the archive, by study and by series."""
    studies: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, str]] = {}
    for row in archived:
        study, uid = row["study_uid"], row["series_uid"]
        if row["origin"] == "result" or not study:
            continue
        if study not in studies:
            studies[study] = _entry(study, study, row["received"], json.loads(row["attributes"]))
        studies[study]["changed"] = max(studies[study]["changed"], row["received"])
        if uid not in found and row["modality"] not in NO_IMAGES:
            description = _value(json.loads(row["attributes"]), "SeriesDescription", 256)
            found[uid] = {
                "series_uid": uid,
                "study_uid": study,
                "modality": row["modality"],
                "description": description,
            }
    return studies, found


def accepted(
    connection: Connection, identity: str, created: str, study: str, attributes: Attributes, supersedes: str | None
) -> None:
    """An analysis was accepted; `study` is empty and `attributes` (those of an image) may be where there is no header."""
    key = study
    if not key and supersedes is not None:
        key = key_of(connection, supersedes) or ""
    key = key or f"analysis:{identity}"
    _note(connection, key, _entry(key, study, created, attributes))
    connection.execute(insert(answers).values(analysis=identity, key=key, outcome=None, digest="{}"))


def touched(connection: Connection, identity: str) -> None:
    """Something happened to an analysis."""
    key = select(_N.key).where(_N.analysis == identity).scalar_subquery()
    moment = rows.now()
    connection.execute(update(entries).where(_E.key == key, _E.changed < moment).values(changed=moment))


def ended(connection: Connection, identity: str, result: Mapping[str, Any] | None) -> None:
    """An analysis ended, with a result or without."""
    connection.execute(update(answers).where(_N.analysis == identity).values(**_told(result)))
    touched(connection, identity)


def _told(result: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"outcome": result.get("outcome"), "digest": json.dumps(digest(result))} if result else {"digest": "{}"}


def gone(connection: Connection, keys: Iterable[str]) -> None:
    """Instances or analyses of these entries were deleted: what nothing is left of leaves the list."""
    a = db.archive.c
    for some in chunks(sorted(set(keys))):
        left = exists().where(a.series_uid == _S.series_uid)
        connection.execute(delete(series).where(_S.study_uid.in_(some), ~left))
        images = exists().where(a.study_uid == _E.key, a.origin != "result")
        analyses = exists().where(_N.key == _E.key)
        connection.execute(delete(entries).where(_E.key.in_(some), ~images, ~analyses))


def key_of(connection: Connection, identity: str) -> str | None:
    """Key of the entry that an analysis stands in."""
    return connection.scalar(select(_N.key).where(_N.analysis == identity))


def _note(connection: Connection, key: str, entry: dict[str, Any]) -> None:
    """Write an entry, or what is later and what was missing in the one that is there."""
    known = connection.execute(select(entries).where(_E.key == key)).first()
    if known is None:
        db.add_new(connection, entries, [entry])
        known = connection.execute(select(entries).where(_E.key == key)).first()
    if known is None:
        return
    missing = {name: entry[name] for name in FIELDS if entry[name] and not getattr(known, name)}
    if missing:
        merged = {name: missing.get(name, getattr(known, name)) for name in FIELDS}
        missing["words"] = _words(merged, known.study or "")
    if missing or known.changed < entry["changed"]:
        later = case((_E.changed < entry["changed"], entry["changed"]), else_=_E.changed)
        connection.execute(update(entries).where(_E.key == key).values(changed=later, **missing))


def _entry(key: str, study: str, changed: str, attributes: Attributes) -> dict[str, Any]:
    fields = {name: _value(attributes, keyword, longest) for name, (keyword, longest) in _KEYWORDS.items()}
    return {"key": key, "study": study or None, "changed": changed, **fields, "words": _words(fields, study)}


def _words(fields: Mapping[str, str], study: str) -> str:
    name = fields["name"].replace("^", " ").replace("=", " ")
    return " ".join((name, fields["patient"], fields["accession"], fields["description"], study)).casefold()


def _value(attributes: Attributes, keyword: str, longest: int) -> str:
    found = (attributes.get(tag(keyword), {}).get("Value") or [""])[0]
    if isinstance(found, Mapping):
        found = "=".join(str(found.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    return str("" if found is None else found).replace("\0", "").strip()[:longest]


# -- an answer in few words -------------------------------------------------------------------------------------------------


def digest(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the list shows of a result (the Analysis body of the HTTP contract).

    `top` is the grade of a photograph with its probability, or the nodule with the highest score of its operating point (the
    malignant one) with that score.
    """
    findings = [one for one in result.get("findings", []) if "operating_point" in one]
    positive = sum(one["operating_point"]["decision"] == "positive" for one in findings)
    top = None
    if findings:
        first = max(findings, key=_shown)
        top = {
            "finding": first["id"],
            "label": first["label"],
            "probability": _shown(first),
            "grade": first.get("grade"),
            "decision": first["operating_point"]["decision"],
        }
    return {
        "version": result.get("model", {}).get("version"),
        "laterality": result.get("input", {}).get("laterality", ""),
        "findings": len(result.get("findings", [])),
        "positive": positive,
        "top": top,
        "gradable": (result.get("quality") or {}).get("gradable"),
    }


def _shown(finding: Mapping[str, Any]) -> float:
    """The number that stands for a finding: the probability of its grade, or the score that its decision is made by."""
    if "grade" in finding:
        return float(finding["probabilities"][str(finding["grade"])])
    return float(finding["operating_point"].get("score", max(finding["probabilities"].values())))


# -- made anew --------------------------------------------------------------------------------------------------------------


def prepare(connection: Connection) -> None:
    """Make the tables where they are missing, and their rows where another version wrote them or nobody did."""
    if connection.dialect.name == "postgresql":  # two hosts may start at the same time
        connection.execute(text("SELECT pg_advisory_xact_lock(7304962)"))
    db.metadata.create_all(connection, tables=[entries, series, answers, _version])
    if connection.scalar(select(_version.c.version)) != VERSION:
        for table in (entries, series, answers, _version):
            connection.execute(delete(table))
        _fill(connection)
        connection.execute(insert(_version).values(version=VERSION))
        if connection.dialect.name == "postgresql":  # else it plans badly until it has counted by itself
            for table in (entries, series, answers):
                connection.execute(text(f"ANALYZE {table.name}"))


def _fill(connection: Connection) -> None:
    r = db.archive.c
    sources = (r.origin != "result") & (r.study_uid != "")
    latest = select(r.study_uid, func.max(r.received)).where(sources).group_by(r.study_uid)
    changed = {row[0]: row[1] for row in connection.execute(latest)}
    firsts = connection.scalars(select(func.min(r.sop_instance_uid)).where(sources).group_by(r.study_uid, r.series_uid))
    for some in chunks(sorted(firsts.all())):
        found = connection.execute(select(db.archive).where(r.sop_instance_uid.in_(some)).order_by(r.sop_instance_uid))
        studies, images = _gathered({**row._mapping, "received": changed[row.study_uid]} for row in found)
        db.add_new(connection, entries, list(studies.values()))
        db.add_new(connection, series, list(images.values()))
    _mend_links(connection)
    a = db.analyses.c
    keys: dict[str, str] = {}
    for some in chunks(connection.scalars(select(a.id).order_by(a.created, a.id)).all()):
        columns = (a.id, a.created, a.study, a.patient, a.supersedes, a.status, a.result)
        for row in connection.execute(select(*columns).where(a.id.in_(some)).order_by(a.created, a.id)).all():
            key = keys[row.id] = row.study or keys.get(row.supersedes) or f"analysis:{row.id}"
            if changed.get(key, "") < row.created:
                patient = {tag("PatientID"): {"vr": "LO", "Value": [row.patient]}}
                _note(connection, key, _entry(key, row.study, row.created, patient))
            told = _told(json.loads(row.result) if row.result else None)
            connection.execute(insert(answers).values(analysis=row.id, key=key, **told))


def _mend_links(connection: Connection) -> None:
    """Older versions left the names of deleted analyses in place."""
    a = db.analyses.c
    known = select(a.id)
    for column in (a.supersedes, a.superseded_by):
        connection.execute(update(db.analyses).where(column.not_in(known)).values({column.name: None}))
