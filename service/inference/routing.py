"""Which bundle answers for an input: by its content, or by the name the sender gives.

Rules: a nodule model takes CT series, and grey photographs (crops) only when it is named; a retina model takes colour
photographs, as DICOM or as plain files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.bundle import Bundle
from service.errors import NotFound, OutOfContract
from service.records import Instance

NODULE = "nodule_malignancy"
RETINA = "dr_grade"

_TAKES = {NODULE: "chest CT series", RETINA: "colour photographs of the retina"}


def named(bundles: Mapping[str, Bundle], name: str) -> Bundle:
    """The bundle called `name`.

    Raises
    ------
    NotFound
        With the names that exist.
    """
    try:
        return bundles[name]
    except KeyError:
        raise NotFound(f"there is no model with this name; this service has: {', '.join(sorted(bundles))}") from None


def is_colour(instance: Instance) -> bool:
    """Whether an instance's pixels are colours; a palette has one sample a pixel and is colour all the same."""
    return instance.samples > 1 or instance.photometric == "PALETTE COLOR"


def kind(instance: Instance) -> str:
    """What an instance is, in words for messages; holds no patient data."""
    if instance.media == "photograph":
        return "colour photograph" if is_colour(instance) else "grey image"
    return f"DICOM {instance.modality or 'object without modality'}"


def takes(bundle: Bundle, instance: Instance, asked: bool = False) -> bool:
    """Whether a bundle was made for an instance of this kind; `asked` where the sender named the bundle."""
    if instance.media == "photograph":
        return is_colour(instance) if bundle.task == RETINA else (asked and not is_colour(instance))
    if bundle.task == RETINA and not is_colour(instance):
        return False
    return instance.sop_class_uid in bundle.description["input"]["sop_classes"]


def route(
    bundles: Mapping[str, Bundle], instances: Sequence[Instance], name: str | None = None
) -> tuple[Bundle, list[Instance]]:
    """Choose the bundle for an input, and the instances it answers for.

    Returns
    -------
    bundle : Bundle
    instances : list of Instance
        Those the bundle takes; others (reports, dose sheets) came along in the same archive and are left out.

    Raises
    ------
    NotFound
        When `name` is no model's name.
    OutOfContract
        When no bundle takes any of the instances, or different bundles take different ones and none was named.
    """
    found = ", ".join(sorted({kind(instance) for instance in instances}))
    if name is not None:
        bundle = named(bundles, name)
        taken = [instance for instance in instances if takes(bundle, instance, asked=True)]
        if not taken:
            raise OutOfContract(
                f"model {bundle.name} takes {_TAKES[bundle.task]}; what was sent: {found}",
                [{"where": "model", "message": "does not fit the files"}],
            )
        return bundle, taken
    candidates = [
        (bundle, taken) for bundle in bundles.values() if (taken := [i for i in instances if takes(bundle, i)])
    ]
    if not candidates:
        known = "; ".join(f"{bundle.name} takes {_TAKES[bundle.task]}" for bundle in bundles.values())
        hint = (
            " Grey crops of a nodule need the model's name in the request."
            if any(not is_colour(i) and i.media == "photograph" for i in instances)
            else ""
        )
        raise OutOfContract(
            f"no model takes what was sent ({found}): {known}.{hint}",
            [{"where": "files", "message": "no model takes them"}],
        )
    if len(candidates) > 1:
        names = ", ".join(sorted(bundle.name for bundle, _ in candidates))
        raise OutOfContract(
            f"several models take parts of what was sent ({names}); send each on its own, or name the model",
            [{"where": "model", "message": "not decidable by content"}],
        )
    return candidates[0]
