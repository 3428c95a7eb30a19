"""What of a failed dry run is shown to people: Snakemake's own sentence, and where the rest is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cvdm_core.doctor.dry_run import LOG, LONGEST, planned, reason, snakemake
from cvdm_core.errors import UserError

USING = "Using profile slurm for setting default command line arguments.\n"
PLACE = '  File "/srv/cvdm/workflow/rules/common.smk", line 97, in <module>\n'


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            f"{USING}WorkflowError in file common.smk, line 97:\nx.yaml: there is no key 'a.b'.\n{PLACE}{'x' * 900}",
            "x.yaml: there is no key 'a.b'.",
        ),
        (f"{USING}WorkflowError:\nConfig file is not valid JSON or YAML.\n", "Config file is not valid JSON or YAML."),
        (f'ZeroDivisionError in file "/srv/a.smk", line 3:\ndivision by zero\n{PLACE}', "ZeroDivisionError: division by zero"),
        (f"usage: snakemake [-h]\n{'  [--x]' * 200}\nsnakemake: error: unrecognized arguments: --no=3\n", "unrecognized arguments: --no=3"),
        (
            f"Traceback (most recent call last):\n{PLACE}    work()\nOSError: [Errno 28] No space left on device\n",
            "OSError: [Errno 28] No space",
        ),
        (f"MissingRuleException:\nNo rule to produce x.\n{USING}", "MissingRuleException: No rule to produce x."),
        ("a\n" * 2000 + "nobody knows this\n", "nobody knows this"),
    ],
)
def test_the_first_error_is_shown(said: str, shown: str) -> None:
    found = reason(said)
    assert shown in found and len(found) <= LONGEST
    assert "File " not in found and "usage" not in found


def test_a_plan_that_fails_keeps_all_that_was_said_in_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = "import sys; print('first'); sys.exit('WorkflowError:\\na.tsv: it is no sheet.\\n' + 'y' * 3000)"
    with pytest.raises(UserError, match=r"cannot plan the workflow: a\.tsv: it is no sheet\. .*logs/plan\.log has all"):
        planned([sys.executable, "-c", script])
    kept = LOG.read_text()
    assert kept.startswith(f"$ {sys.executable} -c ") and "first\n" in kept and kept.count("y") >= 3000


def test_where_the_log_cannot_be_written_the_reason_is_said_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("logs").write_text("no folder")
    with pytest.raises(UserError, match="cannot plan the workflow: it is no sheet"):
        planned([sys.executable, "-c", "import sys; sys.exit('WorkflowError:\\nit is no sheet')"])


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_a_home_that_may_not_be_written_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """As of an account for services, or on nodes that do not mount it."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, "/proc/nowhere")
    with pytest.raises(UserError, match=r"/proc/nowhere/.*snakemake: Snakemake cannot keep its cache .*`export XDG_CACHE_HOME=\$PWD/"):
        snakemake(Path("slurm"), [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "build/cache"))
    assert Path(snakemake(Path("slurm"), [])[0]).name == "snakemake"
