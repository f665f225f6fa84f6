from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from appliance.cli import act, main, papers
from appliance.errors import ApplianceError, ConfigError, Problem
from appliance.install import commands
from tests.cli.conftest import PROGRAM, Call

FIRST_LINES = {
    "run": "Serve in the foreground until SIGTERM or Ctrl-C.",
    "check": "Find everything that is wrong with a configuration, without starting",
    "status": "Tell what runs: services, addresses, workers, confinement, problems.",
    "reload": "Make a running appliance read its configuration again.",
    "drain": "End a running appliance gently.",
    "stop": "End a running appliance at once; running transfers are cut.",
    "probe": "Tell whether a file can be fetched: reachable, its size, the options agreed,",
    "get": "Fetch a file by TFTP or anonymous FTP, and tell bytes, seconds, rate and the",
    "put": "Send a file by TFTP or anonymous FTP, and tell bytes, seconds, rate and the",
    "version": "Print the version of this program.",
    "incoming list": "List the uploads that wait in the drop box, the oldest first.",
    "incoming show": "Tell everything that is known of one upload, its SHA-256 included.",
    "incoming release": "Give an upload to everybody, as a copy that was hashed and scanned.",
    "incoming reject": "Remove an upload for good.",
    "incoming purge": "Remove uploads that were complete before a time, or all.",
    "boot catalog": "List the recipes that a manifest can name below `recipes:`, and how far each",
    "boot plan": "Tell what would be fetched and published, and what each machine would boot.",
    "boot explain": "Tell every file that a machine will ask for, in its order, which of them is",
    "boot host set": "Add a machine, or change what is said about it; what is not given stays as",
    "boot host list": "List every machine of the manifest and of hosts.d, with what it boots and",
    "boot host rm": "Forget machines that `set` or `import` wrote; those that a person wrote into",
    "boot host import": "Add the machines of a list. Known ones (by any address) are left as they",
    "config schema": "Print the JSON Schema of the configuration, for editors and generators.",
    "config show": "Print the configuration that is in effect: every key, those left out with",
}


@pytest.mark.parametrize("verb", FIRST_LINES)
def test_every_verb_explains_itself_with_an_example(call: Call, verb: str) -> None:
    said = call(*verb.split(), "--help")
    assert said.code == 0
    lines = [line.strip() for line in said.out.splitlines()]
    assert lines[0].startswith(f"Usage: appliance {verb} [OPTIONS]")
    assert lines[2] == FIRST_LINES[verb]
    assert f"appliance {verb}" in "".join(said.out.split("Usage:")[1].splitlines()[1:])


@pytest.mark.parametrize("verb", [verb for verb in FIRST_LINES if verb not in ("config schema", "boot catalog")])
def test_every_verb_that_depends_on_a_configuration_takes_one(call: Call, verb: str) -> None:
    assert "-c, --config FILE" in call(*verb.split(), "--help").out


@pytest.mark.parametrize("verb", [verb for verb in FIRST_LINES if verb not in ("run", "config schema")])
def test_every_verb_that_tells_facts_has_json(call: Call, verb: str) -> None:
    assert "--json" in call(*verb.split(), "--help").out


def test_help_names_every_verb(call: Call) -> None:
    said = call("--help")
    assert said.code == 0
    assert said.out.startswith("Usage: appliance [OPTIONS] COMMAND")
    for verb in FIRST_LINES:
        assert f"\n  {verb.split()[0]} " in said.out


def test_an_unknown_verb_is_a_usage_error_on_standard_error(call: Call) -> None:
    said = call("serve")
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("Usage: appliance")
    assert "No such command 'serve'" in said.err


def test_no_verb_is_a_usage_error(call: Call) -> None:
    assert call().code == 2


def test_an_unknown_option_is_a_usage_error(call: Call) -> None:
    said = call("status", "--colour")
    assert said.code == 2
    assert "No such option" in said.err


def test_every_problem_of_a_bad_configuration_is_told_with_exit_code_2(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConfigError((Problem("error", "unknown key", "did you mean root?", "tftp.rot", "a.yaml", 3, 5),) * 2)

    monkeypatch.setattr(act.configuration, "find", fail)
    said = call("reload")
    assert said.code == 2
    assert said.err == "a.yaml:3:5: tftp.rot: unknown key (did you mean root?)\n" * 2


def test_a_failure_is_one_line_with_exit_code_1(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ApplianceError("the moon is full")

    monkeypatch.setattr(act.configuration, "find", fail)
    said = call("reload")
    assert (said.code, said.err) == (1, "appliance: the moon is full\n")


def test_no_help_text_shows_the_mark_that_keeps_lines_apart() -> None:  # a doubled backslash once printed it
    shown = [command.help for _, command in commands.walk(papers.commands(main.program()))]
    assert [text for text in shown if "\\b" in text] == []


def test_a_reload_that_is_asked_for_while_it_starts_does_not_end_it() -> None:
    """Seen: SIGHUP in the first second of `run` was the end of it. What is ignored stays so over execve(2)."""
    script = (
        "import os, signal, sys; from appliance.cli.main import main; before = set(sys.modules);"
        "os.execv = lambda *_: print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, 'typer' in before);"
        "sys.exit(main(['run', '-c', '/dev/null']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_help_loads_nothing_that_only_a_verb_needs() -> None:
    script = (
        "import sys; from appliance.cli.main import main; main(['--help']); "
        "print(sorted({'pydantic', 'yaml', 'rich', 'tftpy', 'ftplib', 'pyftpdlib', 'logging'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_is_no_noise() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*PROGRAM, "--help"], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_under_standard_output_is_told_in_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "version"], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"appliance: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_without_a_standard_descriptor_a_verb_does_what_it_does(closed: str) -> None:
    """Seen: a traceback and exit code 1 from every verb, and `run 2>&-` did not start."""
    argv = ["sh", "-c", f'exec "$@" {closed}', "sh", *PROGRAM, "config", "show"]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout == b"", done.stderr == b"") == (0, closed[0] == ">", "2>" in closed)


def test_ctrl_c_is_quiet_and_ends_with_130() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(30)
        url = f"tftp://127.0.0.1:{silent.getsockname()[1]}/x"
        process = subprocess.Popen([*PROGRAM, "probe", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert silent.recv(1000)  # it is under way
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30) == (b"", b"")
            assert process.returncode == 130
        finally:
            process.kill()
            process.wait()


def test_the_console_script_and_the_module_are_the_same_program() -> None:
    from importlib.metadata import entry_points

    (script,) = [point for point in entry_points(group="console_scripts") if point.name == "appliance"]
    assert script.load() is main.main
