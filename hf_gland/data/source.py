"""What a source of images is. Each is a module of `hf_gland.data.sources` that defines `SOURCE`; nothing else names it."""

import argparse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_gland.data.sample import Sample
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.labels import BINARY_CLASSES


@dataclass(frozen=True)
class Item:
    """One image that is not read yet. `patient_id` and `grade`: "" where unknown; `files`: the source's own business."""

    image_id: str
    patient_id: str = ""
    grade: str = ""
    files: Any = None


@dataclass(frozen=True)
class Offer:
    """What a source has, under the options it was opened with.

    splits      the images of each split.
    read        items → their samples in the same order, each with the sparse annotation that came with it, or None.
    title       name of the data, kept in the provenance.
    licence     of the images: the Hub's name of one, or the terms in words.
    by_hand     the annotations come with the images; none are drawn.
    record      what the samples were made from (checksums, seeds), for the provenance.
    """

    splits: Mapping[str, Sequence[Item]]
    read: Callable[[Sequence[Item]], Iterator[tuple[Sample, SparseAnnotation | None]]]
    title: str
    licence: str
    class_names: Sequence[str] = BINARY_CLASSES
    by_hand: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """One place that images come from.

    name        the word for it on the command line.
    title       name of the data in provenance and cards; "" where the user gives it.
    summary     one line of help; `description`: more of it.
    shareable   whether the licence lets anyone pass the pixels on; None: that depends on the licence the user states.
    bibtex      the papers to cite.
    limits      a sentence for the card of a model that was trained on it, where the data alone do not say it.
    styles      annotation styles beside those that `sparsify` draws.
    held_out    share of the train images that becomes `validation`, by patient, unless the user says otherwise; 0: never.
    drawn       whether its annotations can be drawn by `sparsify`; if not, the options of that are not offered.
    add_options adds the source's own options to its parser.
    open        what it offers under the parsed options. Raises DatasetError.
    read_again  (archive, image ids, whether to verify) → samples in that order, for a source whose pixels everyone gets
                from the same archive: its annotations can be published alone. None: there is no such archive.
    """

    name: str
    title: str
    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    open: Callable[[argparse.Namespace], Offer]
    description: str | None = None
    shareable: bool | None = None
    bibtex: str = ""
    limits: str = ""
    styles: tuple[str, ...] = ()
    held_out: float = 0.0
    drawn: bool = True
    read_again: Callable[[Path, Collection[str], bool], Iterator[Sample]] | None = None
