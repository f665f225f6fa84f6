"""Completion for bash, zsh and fish, written out: nothing runs while one types. Pure."""

from __future__ import annotations

from appliance.install.commands import Command, walk

_FILES = ("FILE", "[FILE]", "DIR", "PATH")


def bash(whole: Command) -> str:
    """A file for /usr/share/bash-completion/completions (bash(1), Programmable Completion)."""
    cases = []
    for words, command in walk(whole):
        options = [name for parameter in command.parameters for name in parameter.names]
        offered = " ".join([*(one.name for one in command.below), *options, "--help"])
        files = any(not one.names and one.value in _FILES for one in command.parameters)
        cases.append(f'        "{" ".join(words[1:])}") offered="{offered}"{" files=yes" if files else ""} ;;')
    takes_file = "|".join(sorted({n for n, _ in _with_values(whole, files=True)}))
    takes_other = "|".join(sorted({n for n, _ in _with_values(whole, files=False)}))
    groups = "|".join(f'"{" ".join(words[1:])}"' for words, command in walk(whole) if command.below)
    name = whole.name
    return "\n".join(
        (
            f"# Completion of {name} for bash; generated from its help texts.",
            f"_{name}() {{",
            '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '    local verb="" offered="" files="" i',
            '    case "$before" in',
            f'        {takes_file}) COMPREPLY=($(compgen -f -- "$word")); return ;;',
            f"        {takes_other}) COMPREPLY=(); return ;;",
            "    esac",
            "    for ((i = 1; i < COMP_CWORD; i++)); do",
            f'        case "$verb" in {groups}) ;; *) break ;; esac',
            '        case "${COMP_WORDS[i]}" in -*) ;; *) verb="${verb:+$verb }${COMP_WORDS[i]}" ;; esac',
            "    done",
            '    case "$verb" in',
            *cases,
            "    esac",
            '    COMPREPLY=($(compgen -W "$offered" -- "$word"))',
            '    [ -z "$files" ] || COMPREPLY+=($(compgen -f -- "$word"))',
            "}",
            f"complete -o filenames -F _{name} {name}",
            "",
        )
    )


def fish(whole: Command) -> str:
    """A file for /usr/share/fish/vendor_completions.d (fish, complete(1))."""
    name = whole.name
    lines = [f"# Completion of {name} for fish; generated from its help texts."]
    for words, command in walk(whole):
        inside = [f"__fish_seen_subcommand_from {word}" for word in words[1:]]
        if command.below:
            others = " ".join(one.name for one in command.below)
            here = "; and ".join([*inside, f"not __fish_seen_subcommand_from {others}"])
            lines += [
                f"complete -c {name} -f -n {_quoted(here)} -a {one.name} -d {_quoted(one.short)}"
                for one in command.below
            ]
        for parameter in command.parameters:
            condition = _quoted("; and ".join(inside)) if inside else "true"
            spelled = [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in parameter.names]
            value = "" if not parameter.value else " -r" if parameter.value in _FILES else " -x"
            if spelled:
                lines.append(
                    f"complete -c {name} -n {condition} {' '.join(spelled)}{value} -d {_quoted(_first(parameter.help))}"
                )
    return "\n".join(lines) + "\n"


def zsh(whole: Command) -> str:
    """A file for /usr/share/zsh/vendor-completions: that of bash, through zsh's own bridge (zshcompsys(1))."""
    name = whole.name
    return (
        f"#compdef {name}\n# Completion of {name} for zsh; generated from its help texts.\n"
        f"autoload -Uz bashcompinit && bashcompinit\n"
        f"source /usr/share/bash-completion/completions/{name}\n"
    )


def _with_values(whole: Command, *, files: bool) -> list[tuple[str, str]]:
    return [
        (name, parameter.value)
        for _, command in walk(whole)
        for parameter in command.parameters
        for name in parameter.names
        if parameter.value and (parameter.value in _FILES) == files
    ]


def _first(text: str) -> str:
    return text.split(". ", maxsplit=1)[0].rstrip(".")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
