"""Write config.schema.json, acquisitions.schema.json and config/README.md from the pydantic models: `make schemas`.

Editors complete and check YAML against the schemas; people read the README. The workflow itself checks with the models, once.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cvdm_core.config import Config
from cvdm_core.sheet import Acquisition

ROOT = Path(__file__).resolve().parents[2]

INTRODUCTION = """\
# Configuration

Made by `make schemas` from `cvdm_core/config.py` and `cvdm_core/sheet.py`; change the text there.

A configuration is a YAML file of the sections below; what it leaves out has its default. `config/config.yaml` belongs to the demo
and is used when no other file is named. For your own data write your own file, which replaces the demo's:

    snakemake --profile profiles/local --configfile config/mine.yaml

Several files lie over one another, later ones over earlier ones; `--config 'sampling={steps: 10}'` behind `snakemake`, and
`--set sampling.steps=10` behind a `cvdm` command, lie over all of them. Unknown keys are refused. A line
`# yaml-language-server: $schema=../workflow/schemas/config.schema.json` at the top makes editors complete and check the file.

When a value changes, what depends on it runs again, and nothing else: `store` from ingestion on (`output_dtype`: from sampling
on), `model` and `training` (but not `workers` and `save_every`) from training on, `sampling` from sampling on, `evaluation` from
evaluation on.
"""

SHEET = """\
## The sample sheet

Tab-separated UTF-8 text, one row an acquisition (`config/acquisitions.tsv` unless `acquisitions` says otherwise). A person writes
the first columns or lets `cvdm register FOLDER` add rows; `cvdm register` fills in those marked "measured" from the headers of the
files and writes the sheet anew. A row that is not measured is left out of the run, and the index page names it.
"""


def documents() -> dict[Path, str]:
    """Return the text of every generated file by its path."""
    return {
        ROOT / "workflow/schemas/config.schema.json": _schema(Config),
        ROOT / "workflow/schemas/acquisitions.schema.json": _schema(Acquisition),
        ROOT / "config/README.md": _readme(),
    }


def _schema(model: type[BaseModel]) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _readme() -> str:
    fields = Config.model_fields
    top = [name for name, field in fields.items() if _section(field) is None]
    lines = [INTRODUCTION, "## Top level", "", *_table({name: fields[name] for name in top}), ""]
    for name, field in fields.items():
        if section := _section(field):
            lines += _section_text(name, section)
    columns = [f"| `{name}` | {_cell(field.description)} |" for name, field in Acquisition.model_fields.items()]
    return "\n".join([*lines, SHEET, "| column | meaning |", "| --- | --- |", *columns]) + "\n"


def _section_text(path: str, section: type[BaseModel]) -> list[str]:
    own = {name: field for name, field in section.model_fields.items() if _section(field) is None}
    text = [f"## `{path}`", "", cleandoc(section.__doc__ or ""), "", *_table(own), ""]
    for name, field in section.model_fields.items():
        if inner := _section(field):
            text += _section_text(f"{path}.{name}", inner)
    return text


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a section, or of each entry of a list of sections."""
    kind = next(iter(get_args(field.annotation)), field.annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(fields: dict[str, FieldInfo]) -> list[str]:
    rows = [f"| `{name}` | `{_default(field)}` | {_cell(field.description)} |" for name, field in fields.items()]
    return ["| key | default | meaning, and unit in brackets |", "| --- | --- | --- |", *rows]


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    return "required" if value is PydanticUndefined else json.dumps(list(value) if isinstance(value, tuple) else value)


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
