"""The metadata that the ISIC Archive exports with its images (isic-archive.com, ``isic metadata download``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dermprompt.data.findings import Finding
from dermprompt.data.labels import Tables
from dermprompt.data.tables import Fields, Table, number, read_table

# The Archive's terms for the eight classes of ISIC 2019: in its single column, and at its tree's third level.
DIAGNOSES = {
    "MEL": ("melanoma", "melanoma invasive", "melanoma in situ", "melanoma, nos", "melanoma metastasis"),
    "NV": ("nevus", "nevus, nos", "common nevus", "atypical nevus", "dysplastic nevus", "blue nevus", "spitz nevus"),
    "BKL": (
        "pigmented benign keratosis",
        "seborrheic keratosis",
        "solar lentigo",
        "lichenoid keratosis",
        "lichen planus like keratosis",
    ),
    "BCC": ("basal cell carcinoma",),
    "AK": ("actinic keratosis", "solar or actinic keratosis"),
    "SCC": ("squamous cell carcinoma", "squamous cell carcinoma, nos", "squamous cell carcinoma in situ"),
    "DF": ("dermatofibroma",),
    "VASC": ("vascular lesion", "angioma", "hemangioma", "angiokeratoma", "cherry angioma", "pyogenic granuloma"),
}
_CODES = {word: code for code, words in DIAGNOSES.items() for word in words}
_TREE = tuple(f"diagnosis_{level}" for level in range(1, 6))
_COLUMNS = {"sex": "sex", "anatom_site_general": "site", "lesion_id": "lesion_id", "patient_id": "patient_id"}


def read_archive(path: Path) -> Table:
    """Read diagnosis, age, sex, site, lesion and patient; of a tree of diagnoses, the finest that has a code here."""
    foreign: Counter[str] = Counter()

    def parse(row: Mapping[str, str]) -> Fields:
        said = [row.get(column, "").strip() for column in ("diagnosis", *reversed(_TREE))]
        codes = [_CODES[one.casefold()] for one in said if one.casefold() in _CODES]
        if not codes and any(said):
            foreign[next(filter(None, said))] += 1
        age = {"age": number(row, "age_approx")} if row.get("age_approx") else {}
        known = {field: row[column].strip() for column, field in _COLUMNS.items() if row.get(column, "").strip()}
        return {**({"diagnosis": codes[0]} if codes else {}), **age, **known}

    table = read_table(path, "isic_id", (), parse, ("diagnosis", *_TREE, "age_approx", *_COLUMNS))
    found = [Finding("unknown_diagnosis", path.name, f"{name}, {n} rows") for name, n in foreign.most_common()]
    # An export has dozens of columns, which are not worth a finding.
    findings = [one for one in table.findings if one.verdict not in ("extra_columns", "multiline_cell")]
    return replace(table, findings=(*findings, *found))


ARCHIVE = Tables(
    ("metadata.csv", "isic_metadata*.csv", "challenge-*_metadata_*.csv", "*_metadata_????-??-??.csv"), read_archive
)
