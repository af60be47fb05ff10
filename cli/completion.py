"""Completion scripts for bash, zsh and fish, made from the parser itself: a flag that is added is completed.

A value that is a path is known by its metavar, FILE or DIR; of the other values only choices can be completed. The
scripts serve `python3 qwen_audio.py …` and an alias or a function of one's own that is called qwen-audio:

    source <(python3 /path/to/qwen_audio.py --completion bash)        # in ~/.bashrc
    source <(python3 /path/to/qwen_audio.py --completion zsh)         # in ~/.zshrc, after compinit
    python3 qwen_audio.py --completion fish > ~/.config/fish/conf.d/qwen_audio.fish
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIAS = "qwen-audio"


@dataclass(frozen=True)
class _Flag:
    """A flag as a shell sees it. `metavar` is "" where it takes no value; `kind` is file, folder, words or text."""

    names: tuple[str, ...]
    metavar: str
    kind: str
    words: tuple[str, ...]
    many: bool  # several values may follow
    again: bool  # it may be given more than once
    help: str


def completion(parser: argparse.ArgumentParser, shell: str, *, words: Mapping[str, Sequence[str]] | None = None) -> str:
    """The script that completes the flags of `parser` in "bash", "zsh" or "fish"; another shell is a KeyError.

    `words` are possible values by the destination of a flag, for flags that the parser does not limit to choices.
    """
    flags = [
        _flag(parser, action, (words or {}).get(action.dest, ()))
        for action in parser._actions  # noqa: SLF001 - argparse lists them nowhere else
        if action.option_strings and action.help != argparse.SUPPRESS
    ]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](parser.prog, flags)


def _flag(parser: argparse.ArgumentParser, action: argparse.Action, words: Sequence[str]) -> _Flag:
    metavar = " ".join([action.metavar] if isinstance(action.metavar, str) else action.metavar or [])
    listed = tuple(word for word in map(str, action.choices or words) if re.fullmatch(r"[\w.,:+/-]+", word))
    return _Flag(
        names=tuple(action.option_strings),
        metavar="" if action.nargs == 0 else metavar or action.dest.upper(),
        kind="words" if listed else "file" if "FILE" in metavar else "folder" if "DIR" in metavar else "text",
        words=listed,
        many=action.nargs in {"*", "+"},
        again=isinstance(action, argparse._AppendAction),  # noqa: SLF001 - has no public name; extend is one too
        help=" ".join(((action.help or "") % {**vars(action), "prog": parser.prog}).split()),
    )


def _filled(template: str, program: str, **parts: str) -> str:
    """Put the names, and what is made of the flags, into a script."""
    name = re.sub(r"\W", "_", program.removesuffix(".py"))
    for key, text in {**parts, "program": program, "alias": ALIAS, "name": name}.items():
        template = template.replace(f"@{key}@", text)
    return template


def _quoted(text: str) -> str:
    """In single quotes, between which no shell looks at anything but the next one."""
    return "'" + text.replace("'", "'\\''") + "'"


# Names of files are left to readline (-o default), which knows how to quote them. Written for the bash 3.2 of macOS,
# too, which has no compopt. A value after = is a word of its own there, and so is the sign.
_BASH = """\
# bash completion for @program@; as a command of its own: alias @alias@='python3 /path/to/@program@'
_@name@() {
    local cur=${COMP_WORDS[COMP_CWORD]} before=$((COMP_CWORD - 1)) at flag words IFS=$' \\t\\n'
    COMPREPLY=()
    [[ $cur == "=" ]] && cur=
    [[ ${COMP_WORDS[before]} == "=" ]] && before=$((before - 1))
    at=$before
    while ((at > 0)) && [[ ${COMP_WORDS[at]} != -?* ]]; do at=$((at - 1)); done
    flag=${COMP_WORDS[at]}
    if [[ $cur == -* ]] || { ((at < before)) && [[ " @many@ " != *" $flag "* ]]; }; then
        flag=
    fi
    case $flag in
@cases@
        *) words='@flags@' ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _@name@ @program@ @alias@

# python3 @program@, too; whatever else completes python3 goes on to do so
_@name@_python() {
    if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]##*/} == @program@ ]]; then
        _@name@ "$@"
    elif [[ -n ${_@name@_other-} ]]; then
        "$_@name@_other" "$@"
    fi
}
{ _comp_load python3 || _completion_loader python3; } >/dev/null 2>&1
_@name@_spec=$(complete -p python3 2>/dev/null)
if [[ $_@name@_spec == *" -F "* && $_@name@_spec != *_@name@_python* ]]; then
    _@name@_other=${_@name@_spec#* -F }
    _@name@_other=${_@name@_other%% *}
fi
unset _@name@_spec
complete -o default -F _@name@_python python3
"""
_BASH_VALUES = {
    "file": "return",
    "folder": "compopt +o default -o dirnames 2>/dev/null; return",
    "text": "compopt +o default 2>/dev/null; return",
}


def _bash(program: str, flags: list[_Flag]) -> str:
    arms: dict[str, list[str]] = {}  # what is to be done -> the flags for which it is
    for flag in flags:
        if flag.metavar:
            does = _BASH_VALUES.get(flag.kind, "words=" + _quoted(" ".join(flag.words)))
            arms.setdefault(does, []).extend(flag.names)
    return _filled(
        _BASH,
        program,
        cases="\n".join(f"        {'|'.join(names)}) {does} ;;" for does, names in arms.items()),
        many=" ".join(name for flag in flags if flag.many for name in flag.names),
        flags=" ".join(name for flag in flags for name in flag.names),
    )


# To be sourced, or kept as a file _qwen_audio in $fpath. zsh itself completes `python3 @program@ …` by what is known
# about @program@.
_ZSH = """\
#compdef @program@ @alias@
_@name@() {
    _arguments \\
@flags@
}
if [[ $funcstack[1] == _@name@ ]]; then
    _@name@ "$@"
else
    compdef _@name@ @program@ @alias@
fi
"""


def _zsh(program: str, flags: list[_Flag]) -> str:
    specs = [_zsh_spec(flag, name) for flag in flags for name in flag.names]
    if any(flag.many and flag.kind == "file" for flag in flags):
        specs.append("'*:FILE:_files'")  # the second and later values: zsh takes them for words without a flag
    return _filled(_ZSH, program, flags=" \\\n".join("        " + spec for spec in specs))


def _zsh_spec(flag: _Flag, name: str) -> str:
    def escaped(text: str) -> str:
        return re.sub(r"([\\\[\]:])", r"\\\1", text)

    once = "*" if flag.again else f"({' '.join(flag.names)})"
    action = {"file": "_files", "folder": "_files -/", "words": f"({' '.join(flag.words)})", "text": " "}[flag.kind]
    value = f":{escaped(flag.metavar)}:{action}" if flag.metavar else ""
    equals = "=" if flag.metavar and name.startswith("--") else ""
    return _quoted(f"{once}{name}{equals}[{escaped(flag.help)}]{value}")


_FISH = """\
# fish completion for @program@; as a command of its own: alias @alias@ 'python3 /path/to/@program@'
function __@name@_by_python
    string match -q -- '*@program@' (commandline -opc)[2]
end
for whom in @program@ @alias@ 'python3 -n __@name@_by_python'
    set -l command -c (string split ' ' -- $whom)
@flags@
end
"""


def _fish(program: str, flags: list[_Flag]) -> str:
    return _filled(_FISH, program, flags="\n".join("    complete $command " + _fish_spec(flag) for flag in flags))


def _fish_spec(flag: _Flag) -> str:
    names = []
    for name in flag.names:
        kind = "-l" if name.startswith("--") else "-s" if len(name) == 2 else "-o"
        names.append(f"{kind} {name.lstrip('-')}")
    values = {
        "file": "-r -F",
        "folder": "-x -a '(__fish_complete_directories)'",
        "words": f"-x -a {_quoted(' '.join(flag.words))}",
        "text": "-x",
    }
    help_text = flag.help.replace("\\", "\\\\").replace("'", "\\'")  # fish knows these two escapes between its quotes
    return " ".join([*names, *[values[flag.kind]] * bool(flag.metavar), f"-d '{help_text}'"])
