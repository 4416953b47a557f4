"""A real Prometheus scrapes hapolicy; promtool judges metrics, alerts and the dashboard's queries."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.need import need
from tests.support.client import PolicyClient
from tests.support.procs import Process, free_port, wait_until
from tests.support.sample import Sample
from tests.support.web import WebDaemon

CONFIG = Path(__file__).parents[2] / "config"
ALERTS = CONFIG / "prometheus-alerts.yml"
DASHBOARD = CONFIG / "grafana-dashboard.json"

PROMETHEUS_YML = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 500ms}}
rule_files: [{alerts}]
scrape_configs:
  - job_name: hapolicy
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus(Process):
    """A Prometheus that scrapes one hapolicy five times a second."""

    def __init__(self, target: str, folder: Path) -> None:
        config = folder / "prometheus.yml"
        config.write_text(PROMETHEUS_YML.format(alerts=ALERTS, target=target))
        self.address = f"127.0.0.1:{free_port()}"
        arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", "--log.level=warn"]
        arguments += [f"--web.listen-address={self.address}"]
        super().__init__([need("prometheus", "prometheus"), *arguments], cwd=folder)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression has now; nothing while Prometheus still starts."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=10) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503:
                    return []
                raise AssertionError(f"{expression}: {error.read().decode()}") from None
        except OSError:
            return []
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The value of an expression that has at most one."""
        samples = self.query(expression)
        return float(samples[0]["value"][1]) if samples else None

    def wait_value(self, expression: str, wanted: float) -> None:
        """Wait until an expression has this value."""
        wait_until(lambda: self.value(expression) == wanted, f"{expression} is {wanted}", 30)

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def promtool(*arguments: str, stdin: bytes = b"") -> str:
    """What promtool says, which must be happy."""
    command = [need("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode()
    assert 0 == done.returncode, said
    return said


def dashboard_expressions() -> list[str]:
    """All queries of the dashboard, with Grafana's variables filled in."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    return [text.replace("$__rate_interval", "1m").replace("$instance", ".*") for text in found]


@pytest.fixture(scope="module")
def grey1() -> Iterator[Sample]:
    """A service that all tests here share."""
    with Sample("GREY1") as service:
        yield service


def test_a_real_prometheus_reads_what_happened(folder: Path, grey1: Sample) -> None:
    """Counters, states and the histogram arrive with the figures that a client saw; every panel finds something."""
    with Sample("GREY2", "--fault", "refuse") as grey2:
        options = ("--fail-max", "1", "--cooldown", "30", "-s", grey2.service(":10"), "-s", grey1.service(":20"))
        with WebDaemon(*options) as daemon, Prometheus(daemon.web, folder) as prometheus:
            prometheus.wait_value('up{job="hapolicy"}', 1)
            prometheus.wait_value('hapolicy_requests_total{outcome="answered",state="RCPT"}', 0)
            with PolicyClient(daemon.address) as client:
                for _ in range(25):
                    client.ask()
                prometheus.wait_value("hapolicy_clients", 1)
            prometheus.wait_value('hapolicy_requests_total{outcome="answered",state="RCPT"}', 25)
            prometheus.wait_value('hapolicy_service_answers_total{service="GREY1"}', 25)
            prometheus.wait_value('hapolicy_service_failures_total{service="GREY2",kind="refused"}', 1)
            prometheus.wait_value('hapolicy_service_state{service="GREY2",state="down"}', 1)
            prometheus.wait_value('hapolicy_service_up{service="GREY1"}', 1)
            prometheus.wait_value('hapolicy_service_answer_duration_seconds_count{service="GREY1"}', 25)
            median = (
                'histogram_quantile(0.5, rate(hapolicy_service_answer_duration_seconds_bucket{service="GREY1"}[1m]))'
            )
            assert 0 < (prometheus.value(median) or 0) < 1
            assert 0 < (prometheus.value('hapolicy_service_cooldown_seconds{service="GREY2"}') or 0) <= 33
            # The service that is down makes an alert wait for its time to fire.
            prometheus.wait_value('count(ALERTS{alertname="HapolicyServiceDown",service="GREY2"})', 1)
            silent = [text for text in dashboard_expressions() if not prometheus.query(text)]
            assert [] == [text for text in silent if "> 0" not in text]


def test_promtool_finds_nothing_to_say_about_the_metrics(grey1: Sample) -> None:
    """Names, types, units and help texts are as Prometheus wants them."""
    with WebDaemon("-s", grey1.service()) as daemon:
        with PolicyClient(daemon.address) as client:
            client.ask()
        assert "" == promtool("check", "metrics", stdin=daemon.get("/metrics").body)


def test_alerts_and_dashboard_ask_for_metrics_that_exist(grey1: Sample, folder: Path) -> None:
    """promtool reads each expression, and each metric in them is one that hapolicy has."""
    assert "SUCCESS" in promtool("check", "rules", str(ALERTS))
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(dashboard_expressions())]
    (folder / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(folder / "panels.yml"))
    with WebDaemon("-s", grey1.service()) as daemon:
        exposed = set(re.findall(rb"^(hapolicy_\w+)", daemon.get("/metrics").body, re.MULTILINE))
    asked_for = set(re.findall(rb"\b(hapolicy_\w+)", ALERTS.read_bytes() + DASHBOARD.read_bytes()))
    assert set() == asked_for - exposed


def test_every_alert_says_where_to_look_and_what_to_do() -> None:
    """Who is paged at night reads what it means, where to look, and what to do."""
    alerts = ALERTS.read_text().split("- alert: ")[1:]
    assert len(alerts) >= 5
    for alert in alerts:
        name = alert.split()[0]
        missing = [word for word in ("summary:", "description:", "severity:", "Look:", "Do:") if word not in alert]
        assert [] == missing, name


# What the metrics do, a sample a minute, and which alerts fire at its end. "_" stands for no sample.
SERVICE = 'service="A",instance="mx"'
STORIES: dict[str, tuple[dict[str, str], set[str]]] = {
    "all is well": (
        {
            'up{job="hapolicy",instance="mx"}': "1x10",
            f'hapolicy_service_state{{state="up",{SERVICE}}}': "1x10",
            f"hapolicy_service_up{{{SERVICE}}}": "1x10",
            'hapolicy_requests_total{outcome="defaulted",state="RCPT",instance="mx"}': "7x10",
            f'hapolicy_service_failures_total{{kind="answer_timeout",{SERVICE}}}': "0+1x10",
            'hapolicy_log_events_dropped_total{instance="mx"}': "3x10",
            'hapolicy_clients{instance="mx"}': "100x10",
            'hapolicy_max_clients{instance="mx"}': "1000x10",
            'hapolicy_longest_wait_seconds{instance="mx"}': "71x10",
            'hapolicy_deadline_seconds{instance="mx"}': "90x10",
            f'hapolicy_service_answer_duration_seconds_bucket{{le="10.0",{SERVICE}}}': "0+60x10",
            f'hapolicy_service_answer_duration_seconds_bucket{{le="+Inf",{SERVICE}}}': "0+60x10",
            f"hapolicy_service_timeout_seconds{{{SERVICE}}}": "30x10",
        },
        set(),
    ),
    "the daemon is gone": ({'up{job="hapolicy",instance="mx"}': "1x3 0x7"}, {"HapolicyAbsent"}),
    "one of two is down": (
        {
            f"hapolicy_service_up{{{SERVICE}}}": "1x3 0x7",
            'hapolicy_service_state{state="up",service="B",instance="mx"}': "1x10",
            f'hapolicy_service_state{{state="up",{SERVICE}}}': "1x3 0x7",
        },
        {"HapolicyServiceDown"},
    ),
    "all are down": (
        {
            f"hapolicy_service_up{{{SERVICE}}}": "1x3 0x7",
            f'hapolicy_service_state{{state="up",{SERVICE}}}': "1x3 0x7",
        },
        {"HapolicyServiceDown", "HapolicyPoolDown"},
    ),
    "all are drained": ({f'hapolicy_service_state{{state="up",{SERVICE}}}': "1x3 0x7"}, {"HapolicyPoolDown"}),
    "the first default action ever": (
        {'hapolicy_requests_total{outcome="defaulted",state="RCPT",instance="mx"}': "0x8 1x2"},
        {"HapolicyDefaultsAnswered"},
    ),
    "a service comes and goes": (
        {f"hapolicy_service_up{{{SERVICE}}}": "1 0 1 0 1 0 1 1 1 1 1"},
        {"HapolicyServiceFlapping"},
    ),
    "answers take nearly all their time": (
        {
            f'hapolicy_service_answer_duration_seconds_bucket{{le="20.0",{SERVICE}}}': "0x10",
            f'hapolicy_service_answer_duration_seconds_bucket{{le="50.0",{SERVICE}}}': "0+60x10",
            f'hapolicy_service_answer_duration_seconds_bucket{{le="+Inf",{SERVICE}}}': "0+60x10",
            f"hapolicy_service_timeout_seconds{{{SERVICE}}}": "30x10",
        },
        {"HapolicyServiceSlow"},
    ),
    "requests wait in vain": (
        {f'hapolicy_service_failures_total{{kind="answer_timeout",{SERVICE}}}': "0+6x10"},
        {"HapolicyServiceSlow"},
    ),
    "a client waited long, some minutes ago": (
        {
            'hapolicy_longest_wait_seconds{instance="mx"}': "0x6 80 0x3",
            'hapolicy_deadline_seconds{instance="mx"}': "90x10",
        },
        {"HapolicyDeadlineNearlyUsed"},
    ),
    "the log does not take all": (
        {'hapolicy_log_events_dropped_total{instance="mx"}': "0x5 100x5"},
        {"HapolicyLogDrops"},
    ),
    "nearly all places are taken": (
        {'hapolicy_clients{instance="mx"}': "950x10", 'hapolicy_max_clients{instance="mx"}': "1000x10"},
        {"HapolicyClientsNearlyFull"},
    ),
}


def test_each_alert_fires_in_its_story_and_in_no_other(folder: Path) -> None:
    """promtool plays these stories; at the end of each those alerts fire, and no more."""
    names = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert set(names) == set().union(*(fired for _, fired in STORIES.values()))
    stories = []
    for series, fired in STORIES.values():
        checks = [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                "eval_time": "10m",
                "exp_samples": [{"labels": "{}", "value": int(name in fired)}],
            }
            for name in names
        ]
        inputs = [{"series": name, "values": values} for name, values in series.items()]
        stories.append({"interval": "1m", "input_series": inputs, "promql_expr_test": checks})
    rules = {"rule_files": [str(ALERTS)], "evaluation_interval": "15s", "tests": stories}
    (folder / "stories.yml").write_text(json.dumps(rules))
    assert "SUCCESS" in promtool("test", "rules", str(folder / "stories.yml"))
