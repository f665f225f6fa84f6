"""Manual pages and completion say what the program says, and the programs that read them have nothing to object to."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.cli import papers
from appliance.cli.main import program
from appliance.install import commands, completion, manual
from appliance.settings import model
from appliance.settings.main import Settings

WHOLE = papers.commands(program())
VERBS = {" ".join(words[1:]): command for words, command in commands.walk(WHOLE) if not command.below}


def test_every_verb_and_option_stands_in_the_manual() -> None:
    text = manual.program(WHOLE).replace("\\-", "-")
    assert {"run", "check", "incoming release", "tftp explain"} <= set(VERBS)
    for verb, command in VERBS.items():
        assert f".SS {verb}" in text
        assert all(f"\\fB{name}\\fR" in text for parameter in command.parameters for name in parameter.names)


def keys(kind: object, above: str = "") -> list[str]:
    found = []
    for name, hint in model.hints(kind).items():
        inner = model.bare(hint)
        is_section = hasattr(inner, "__dataclass_fields__")
        found += keys(inner, f"{above}{name}.") if is_section else [f"{above}{name}"]
    return found


def test_every_key_of_the_configuration_stands_in_the_manual() -> None:
    text = manual.configuration()
    missing = [key for key in keys(Settings) if f"\\fB{key}\\fR: " not in text]
    assert missing == [] and len(keys(Settings)) > 60


@pytest.mark.skipif(not shutil.which("man"), reason="needs man")
def test_man_renders_both_pages_without_a_warning(tmp_path: Path) -> None:
    for path, content in papers.generated(program()).items():
        if "/man/" in path:
            page = tmp_path / Path(path).name
            page.write_bytes(content)
            argv = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)]
            said = subprocess.run(argv, capture_output=True, timeout=60)
            assert (said.returncode, said.stderr) == (0, b"") and said.stdout


def test_text_that_roff_would_obey_is_only_text() -> None:
    odd = commands.Parameter(("--x",), "", ".so /etc/passwd and \\n[.s] it's", False)
    page = manual.program(commands.Command("p", "", "", (), (commands.Command("v", "", "", (odd,), ()),)))
    assert "\\&.so /etc/passwd and \\en[.s] it\\(aqs" in page


def completed(tmp_path: Path, *typed: str) -> set[str]:
    script = tmp_path / "completion"
    script.write_text(completion.bash(WHOLE))
    words = " ".join(f"'{word}'" for word in typed)
    code = (
        f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _appliance; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    said = subprocess.run(["bash", "-uc", code], capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert said.stderr == ""
    return set(said.stdout.split())


def test_bash_completes_verbs_options_and_files(tmp_path: Path) -> None:
    assert {"run", "status", "incoming"} <= completed(tmp_path, "appliance", "")
    assert completed(tmp_path, "appliance", "inco") == {"incoming"}
    assert {"list", "release"} <= completed(tmp_path, "appliance", "incoming", "")
    assert completed(tmp_path, "appliance", "incoming", "release", "--re") == {"--replace"}
    assert completed(tmp_path, "appliance", "status", "--w") == {"--wait"}
    (tmp_path / "lab.yaml").write_text("")
    assert completed(tmp_path, "appliance", "check", "-c", "la") == {"lab.yaml"}
    assert "lab.yaml" in completed(tmp_path, "appliance", "put", "la")
    assert completed(tmp_path, "appliance", "status", "--wait", "") == set()


def test_fish_and_zsh_get_a_file_each() -> None:
    fish = completion.fish(WHOLE)
    assert "-a incoming" in fish and "-l replace" in fish and "-l config -r" in fish and "-s c" in fish
    assert completion.zsh(WHOLE).startswith("#compdef appliance\n")
    quoted = commands.Command("p", "", "", (), (commands.Command("v", "it's", "", (), ()),))
    assert "-d 'it\\'s'" in completion.fish(quoted)


def test_what_is_generated_is_the_same_each_time() -> None:
    first, second = papers.generated(program()), papers.generated(program())
    assert first == second
    assert gzip.decompress(first["/usr/share/man/man8/appliance.8.gz"]).startswith(b".TH")
    assert "/usr/share/bash-completion/completions/appliance" in first


def test_the_pages_can_be_written_into_a_folder(tmp_path: Path) -> None:
    papers.write(program(), str(tmp_path / "man"))
    assert {"appliance.8.gz", "appliance.yaml.5.gz", "appliance"} <= {p.name for p in (tmp_path / "man").iterdir()}
