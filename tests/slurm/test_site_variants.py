"""What differs from site to site, each a line of the profile, on the real cluster: what SLURM was asked for, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from site_tree import Site, acquired

from cvdm_core.records.receipts import read_json

pytestmark = pytest.mark.slow

RUN = "snakemake --profile slurm --slurm-init-seconds-before-status-checks 4 --latency-wait 5"
TRAIN = f"{RUN} train_only --retries 0 --set-threads train=2"


def write_line(site: Site, old: str, new: str) -> None:
    """Change one line of the profile."""
    file = site.folder / "profiles/slurm/config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.strip().startswith(old)]
    assert places, f"{file} has no line {old!r}"
    lines[places[0]] = re.match(r" *", lines[places[0]])[0] + new + "\n"  # type: ignore[index]
    file.write_text("".join(lines))


def asked(site: Site, rule: str) -> list[dict[str, str]]:
    """Return what SLURM says of all jobs of a rule, in their order."""
    jobs = [number for number, (_, comment) in sorted(site.jobs().items()) if comment.startswith(f"rule_{rule}")]
    said = [site.cluster.said("scontrol", "show", "job", "--oneliner", str(number)) for number in jobs]
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in said]


@pytest.mark.parametrize("line", ["gpu: 1", 'gres: "gpu:1"', 'gres: "gpu:h200:1"'])
def test_a_gpu_job_asks_for_its_gpu_and_one_that_is_not_there_is_named_and_no_silent_run_on_a_cpu(site: Site, line: str) -> None:
    acquired(site, pair="train", checked="val")
    assert site.typed("snakemake --profile profiles/local ingest_all").returncode == 0
    write_line(site, "gpu: 1", line)

    done = site.typed(TRAIN)

    # The cluster's GPU is /dev/null under another name.
    assert done.returncode != 0
    (job,) = asked(site, "train")
    assert "gpu" in job.get("TresPerJob", "") + job.get("TresPerNode", "")
    assert job["JobState"] == "FAILED"
    log = (site.folder / "logs/models/tiny/train.log").read_text()
    assert log.startswith("cvdm train: tiny on ") and f"SLURM job {job['JobId']}, restarted 0 times, attempt 1" in log.splitlines()[0]
    assert "this process was given 1 GPUs (CUDA_VISIBLE_DEVICES=0), and torch finds 0" in log
    assert "Traceback" not in log
    assert "torch finds 0" in read_json(site.folder / "results/.failures/train.tiny.json")["message"]


def test_memory_can_be_asked_for_by_cpu_and_grows_with_the_attempt(site: Site) -> None:
    site.facility.acquire("pair", "train").rename(site.folder / "kept.tif")
    site.facility.acquire("pair", "train")
    assert site.typed("cvdm register").returncode == 0
    damaged = site.folder / "raw/pair.tif"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    write_line(site, "mem_mb: 2000", "mem_mb_per_cpu: 1500 * attempt")

    assert site.typed(f"{RUN} --retries 1 ingest_all").returncode != 0

    jobs = asked(site, "ingest")
    assert [job["MinMemoryCPU"] for job in jobs] == ["1500M", "3000M"]
    log = (site.folder / "logs/pair/ingest.log").read_text()
    assert ", attempt 2, " in log.splitlines()[0]


@pytest.fixture
def fast_node(site: Site) -> Iterator[Site]:
    """The cluster with a feature on its node."""
    site.cluster.said("scontrol", "update", "NodeName=n1", "AvailableFeatures=fastdisk", "ActiveFeatures=fastdisk")
    yield site
    site.cluster.said("scontrol", "update", "NodeName=n1", "AvailableFeatures=", "ActiveFeatures=")


def test_jobs_can_be_kept_to_nodes_with_a_feature(fast_node: Site) -> None:
    acquired(fast_node, pair="train")
    write_line(fast_node, "# SITE: slurm_partition: cpu", "constraint: fastdisk")

    done = fast_node.typed(f"{RUN} ingest_all")

    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = asked(fast_node, "ingest")
    assert job["Features"] == "fastdisk"
    receipt = read_json(fast_node.folder / "results/pair/ingest.json")
    assert receipt["job"]["slurm_job_id"] == job["JobId"] and receipt["job"]["restart_count"] == 0 and receipt["job"]["attempt"] == 1


def test_training_asks_for_several_gpus_of_one_node(site: Site) -> None:
    acquired(site, pair="train", checked="val")
    assert site.typed("snakemake --profile profiles/local ingest_all").returncode == 0
    write_line(site, "gpu: 1", "gpu: 2")

    done = site.typed(f"{TRAIN} --config training='{{devices: 2}}'")

    # The node has one, and with one the job above was taken; SLURM keeps what it refused.
    assert done.returncode != 0
    assert "Requested node configuration is not available" in read_json(site.folder / "results/.failures/train.tiny.json")["message"]
    (job,) = asked(site, "train")
    assert re.search(r"gres[:/]gpu:2\b", job["TresPerJob"])


@pytest.fixture
def limited_site(accounting_site: Site) -> Iterator[Site]:
    """A site whose account allows jobs of ten minutes and three of them in the queue, which the controller enforces."""
    cluster, file = accounting_site.cluster, accounting_site.cluster.folder / "etc/slurm.conf"
    before = file.read_text()

    def restart(text: str, wall: str, submit: str) -> None:
        file.write_text(text)
        cluster.said("sacctmgr", "-i", "modify", "user", "root", "set", f"MaxWall={wall}", f"MaxSubmitJobs={submit}")
        cluster.stop_controller()
        cluster.start_controller()

    restart(before + "AccountingStorageEnforce=associations,limits\n", "00:10:00", "3")
    yield accounting_site
    restart(before, "-1", "-1")


def test_where_accounts_are_kept_the_doctor_knows_their_limits_and_jobs_carry_the_account(limited_site: Site) -> None:
    acquired(limited_site, pair="train")
    write_line(limited_site, "# SITE: slurm_account: mylab", "slurm_account: lab")
    write_line(limited_site, "gpu: 1", "mem_mb: 3000\n    runtime: 60\n    cpus_per_task: 2\n    gpu: 1")

    lines = limited_site.typed("cvdm doctor --profile slurm").stdout.splitlines()

    assert [line for line in lines if "fail  the account lab lets you have 3 jobs in the queue, and the profile sends 50" in line], lines
    assert [line for line in lines if "fail  train: 60 min are more than the 10 of the account lab" in line], lines

    done = limited_site.typed(f"{RUN} ingest_all --jobs 3")

    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = asked(limited_site, "ingest")
    assert job["Account"] == "lab"


def test_more_jobs_than_may_be_in_the_queue_are_sent_as_places_come_free(limited_site: Site) -> None:
    acquired(limited_site, **dict.fromkeys(("a", "b", "c", "d", "e"), "train"))
    write_line(limited_site, "# SITE: slurm_account: mylab", "slurm_account: lab")

    done = limited_site.typed(f"{RUN} ingest_all --retries 0")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [state for state, _ in limited_site.jobs().values()] == ["COMPLETED"] * 5


def test_ctrl_c_ends_a_run_whose_submissions_wait_and_sends_none_of_them(limited_site: Site) -> None:
    acquired(limited_site, **dict.fromkeys(("a", "b", "c", "d", "e", "f", "g"), "train"))
    write_line(limited_site, "# SITE: slurm_account: mylab", "slurm_account: lab")
    limited_site.cluster.said("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=test")
    # As `cvdm night` does it at its end: the signal of Ctrl-C, to the driver and all that it has started.
    driver = limited_site.started(f"timeout --signal=INT 40 {RUN} ingest_all")
    try:
        assert driver.wait(timeout=150) == 124, limited_site.driver_said()
        assert [state for state, _ in limited_site.jobs().values()] == ["CANCELLED"] * 3
    finally:
        limited_site.cluster.said("scontrol", "update", "NodeName=n1", "State=RESUME")
