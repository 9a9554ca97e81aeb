"""`data_sha256`: what a dataset says, however it is encoded."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hf_gland.data.schema import PIXEL_COLUMNS


def row_digest(split: str, row: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of one row: its split, ids, grade, mpp and decoded pixels.

    The columns in `PIXEL_COLUMNS` may be arrays or PIL images (integers below 2^16), or None. Parquet layout, PNG
    compression and the bit depth of a mask do not matter; one changed pixel does.
    """
    mpp = None if row["mpp"] is None else float(np.float32(row["mpp"]))  # as the float32 column gives it back
    digest = hashlib.sha256(json.dumps(
        [split, row["image_id"], row["patient_id"], row["source"], row["grade"], mpp]).encode())
    for column in PIXEL_COLUMNS:
        if row[column] is None:
            continue  # told apart by its name missing from what is hashed
        pixels = np.asarray(row[column])
        digest.update(f"{column}{pixels.shape}".encode())
        digest.update(np.ascontiguousarray(pixels, "<u2").tobytes())
    return digest.hexdigest()


def combined_digest(row_digests: Iterable[str]) -> str:
    """SHA-256 (hex) of rows' digests, in an order that does not depend on that of the rows."""
    return hashlib.sha256("\n".join(sorted(row_digests)).encode()).hexdigest()


def digest_of_names(names: Iterable[str]) -> str:
    """SHA-256 (hex) of names in their order."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def patients_trained_on(rows: Mapping[str, Any], trainings: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """How many patients of a split `trainings` had, by their notes ("patients", none in those of before), and how many it
    has; see `patient_digests`."""
    patients = patient_digests(rows)
    return len(patients & {patient for training in trainings for patient in training.get("patients", ())}), len(patients)


def patient_digests(rows: Mapping[str, Any]) -> set[str]:
    """What the patients of a split are known by where their ids are not to be read: SHA-256 of source and id, 16 hex digits.

    `rows`: columns of `FEATURES`. Images of unknown patients count as nothing.
    """
    pairs = {(source, patient) for source, patient in zip(rows["source"], rows["patient_id"], strict=True) if patient}
    return {hashlib.sha256(f"{source}\n{patient}".encode()).hexdigest()[:16] for source, patient in pairs}
