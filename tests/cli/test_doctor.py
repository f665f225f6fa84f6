"""`appliance doctor`: what is well, what is not, and the command that mends it."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import doctor, reach
from appliance.settings.ftp import FtpSite
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpSettings
from tests.cli.conftest import Call
from tests.ftp.serving import listener, server
from tests.ftp.serving import settings as ftp_settings
from tests.ftp.tlskit import certificate, secured


def chain(policy: str) -> dict[str, Any]:
    return {"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": policy}}


def rule(*ports: object) -> dict[str, Any]:
    right = ports[0] if len(ports) == 1 else {"set": list(ports)}
    left = {"payload": {"protocol": "udp", "field": "dport"}}
    return {"rule": {"expr": [{"match": {"op": "==", "left": left, "right": right}}, {"accept": None}]}}


def test_a_firewall_that_drops_is_held_against_the_ports() -> None:
    settings = Settings()
    assert list(doctor.judged([chain("accept")], settings)) == []
    open_ones = [chain("drop"), rule(69), rule(21, {"range": [61000, 65535]})]
    assert list(doctor.judged(open_ones, settings)) == []
    found = list(doctor.judged([chain("drop"), rule(69)], settings))
    assert {one.what for one in found} == {
        "the firewall drops, and no rule names tcp 21 (ftp)",
        "the firewall drops, and no rule names tcp 61000-65535 (ftp)",
    }
    assert {one.remedy for one in found} == {"appliance firewall nft"}
    no_ftp = dataclasses.replace(settings, tftp=TftpSettings(listen=("0.0.0.0:0",)))
    assert all("tftp" not in one.what for one in doctor.judged([chain("drop")], no_ftp))


def test_a_clock_before_the_program_was_made_is_told() -> None:
    (wrong,) = doctor._clock(0.0)
    assert (wrong.state, wrong.what) == ("error", "the clock says 1970-01-01, before this program was made")
    assert "timedatectl" in wrong.remedy
    (right,) = doctor._clock()
    assert right.state == "ok"


def test_what_does_not_run_is_an_error_with_its_remedy(call: Call, tmp_path: Path) -> None:
    for name in ("tftp", "ftp"):
        (tmp_path / name).mkdir()
    config = tmp_path / "a.yaml"
    config.write_text(
        f"run_dir: {tmp_path}/run\nstate_dir: {tmp_path}/state\n"
        f'tftp: {{root: {tmp_path}/tftp, listen: ["127.0.0.1:0"]}}\n'
        f'ftp: {{root: {tmp_path}/ftp, listen: ["127.0.0.1:0"], active: {{source_port: 0}}}}\n'
    )
    done = call("doctor", "-c", config, "--json")
    assert done.code == 1
    said = done.json()
    running = [one for one in said["findings"] if one["check"] == "running"]
    assert [one["state"] for one in running] == ["error"] and "systemctl start appliance" in running[0]["remedy"]
    assert "error   running: not running" in call("doctor", "-c", config).out


def test_the_address_of_the_network_is_asked_for_a_listener_on_all() -> None:
    assert reach.outward("127.0.0.1") == "127.0.0.1"
    assert reach.outward("192.0.2.77") is None  # seen: `no answer` from an address that another machine has by now
    assert reach.outward("0.0.0.0") is None or "." in str(reach.outward("0.0.0.0"))


def test_an_older_build_that_runs_is_told() -> None:
    (ready, version) = doctor._running({"ready": True, "problems": [], "version": "0.0.1"})
    assert ready.state == "ok" and version.remedy == "systemctl restart appliance"


@pytest.mark.slow
def test_a_running_appliance_is_well_and_answers(tmp_path: Path) -> None:
    from tests.system.running import appliance

    with appliance(tmp_path) as made:
        done = made.verb("doctor", "--json")
        said = json.loads(done.stdout)
    states = {one["check"]: one["state"] for one in said["findings"]}
    assert (states["running"], states["tftp"], states["ftp"], states["clock"]) == ("ok",) * 4
    assert any("a passive connection came through" in one["what"] for one in said["findings"]), os.environ


@pytest.mark.parametrize("mode", ["off", "optional", "required"])
def test_ftp_that_is_well_answers_whatever_the_names_and_however_much_is_under_tls(tmp_path: Path, mode: str) -> None:
    (tmp_path / "root").mkdir()
    with open(bytes(tmp_path / "root") + b"/caf\xe9", "wb"):  # no UTF-8
        pass
    config = ftp_settings() if mode == "off" else secured(certificate(tmp_path), mode=mode)
    with closing(listener()) as second, server(tmp_path / "root", config, more=(second,)) as running:
        port = second.getsockname()[1]
        facts = {"services": {"ftp": {"listen": [f"127.0.0.1:{running.port}", f"127.0.0.1:{port}"]}}}
        found = list(reach.ask(reach.targets(facts, () if mode == "off" else (port,))))
    assert [(one.check, one.state) for one in found] == [("ftp", "ok"), ("ftp" if mode == "off" else "ftps", "ok")]
    assert all("came through (1 entries)" in one.what for one in found)


def test_a_server_that_refuses_the_log_in_for_another_reason_than_tls_is_told_so(tmp_path: Path) -> None:
    with server(tmp_path / "root", ftp_settings(deny=("127.0.0.1/32",))) as running:
        (one,) = reach.ask([reach.Target("ftp", "127.0.0.1", running.port)])
    assert one.state == "error" and one.what.startswith("refuses at 127.0.0.1 port ")
    assert "421 This service is not for your address." in one.what and "ftp.allow" in one.remedy


def test_ports_where_ftp_begins_with_tls_are_those_of_the_configuration() -> None:
    ftp = dataclasses.replace(
        Settings().ftp,
        tls=dataclasses.replace(Settings().ftp.tls, mode="optional", implicit_listen=("0.0.0.0:990",)),
        sites=(FtpSite(implicit_listen=("[::1]:9990",)),),
    )
    assert doctor._implicit(dataclasses.replace(Settings(), ftp=ftp)) == {990, 9990}
    assert doctor._implicit(Settings()) == set()


def with_tls(pair: tuple[Path, Path]) -> Settings:
    settings = Settings()
    tls = dataclasses.replace(settings.ftp.tls, mode="optional", certificate=str(pair[0]), key=str(pair[1]))
    return dataclasses.replace(settings, ftp=dataclasses.replace(settings.ftp, tls=tls))


def test_how_long_a_certificate_is_valid_is_told_and_one_that_ends_soon_by_the_configuration(tmp_path: Path) -> None:
    good, soon = certificate(tmp_path, "good", days=100), certificate(tmp_path, "soon", days=3)
    (one,) = doctor._certificates(with_tls(good))
    assert (one.check, one.state) == ("tls", "ok") and "good.crt is valid for " in one.what
    assert list(doctor._certificates(with_tls(soon))) == []
    (told,) = [one for one in doctor._world(with_tls(soon), []) if one.check == "ftp.tls.certificate"]
    assert told.state == "warning" and "renew it" in told.remedy
    assert list(doctor._certificates(with_tls((tmp_path / "gone", tmp_path / "gone")))) == []


def test_versions_name_what_a_report_of_a_defect_would(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = doctor._versions(Settings())
    assert one.state == "ok" and "appliance " in one.what and "Python 3." in one.what and "Linux " in one.what
    monkeypatch.setattr("shutil.which", lambda _name: None)
    settings = Settings()
    proxy = dataclasses.replace(settings, boot=dataclasses.replace(settings.boot, dhcp="proxy"))
    missing, _versions = doctor._versions(proxy)
    assert (missing.state, missing.remedy) == ("error", "apt-get install dnsmasq-base")


def test_an_address_that_is_none_is_refused_before_anything_is_asked(call: Call) -> None:
    done = call("doctor", "--as", "eth0")
    assert done.code == 2 and "eth0 is no address" in done.err
