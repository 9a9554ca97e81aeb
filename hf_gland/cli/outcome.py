"""What became of the images of a `predict`, and its settings as records hold them."""

from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """How many images were segmented, left as they were, and failed, and the glands in the first."""

    segmented: int = 0
    skipped: int = 0
    failed: int = 0
    glands: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Outcome)))

    def words(self, images: int, out: Path) -> str:
        if self.skipped == images:
            return (f"nothing to do: the results of all {images} images exist in {out}, made with this model, these "
                    "settings and these very pictures")
        skipped = f", skipped: {self.skipped}" if self.skipped else ""
        return f"segmented: {self.segmented}{skipped}, failed: {self.failed}, glands: {self.glands}; written to {out}"


def glands_found(glands: int, left_out: int) -> str:
    """How many glands were found, and how many regions were none because the network was hardly sure of them, in words."""
    return f"glands: {glands}" + (f" ({left_out} more left out as unsure)" if left_out else "")


def recorded(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as a record holds them."""
    return {name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for name, value in settings.items()}
