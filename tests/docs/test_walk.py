"""The parsing and comparison of the tutorial's commands; tests/sites/test_tutorial.py runs them."""

import os
from pathlib import Path

import pytest
from walk import Command, File, Shell, matches, read_steps, walk

PAGE = """# A page

```sh
not run
```

```yaml cloud.yaml
sites: []
```

```console
$ cat <<EOF
> one
> EOF
one
$ true
```

```console fails
$ false
```
"""


@pytest.fixture
def shell(tmp_path):
    made = Shell(tmp_path, {"PATH": os.environ["PATH"]})
    yield made
    made.close()


def page(directory: Path, *blocks: str) -> Path:
    path = directory / "page.md"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    return path


def test_steps_of_a_page():
    assert list(read_steps(PAGE)) == [
        File("cloud.yaml", "sites: []\n"),
        Command(12, "cat <<EOF\none\nEOF", ("one",)),
        Command(16, "true", ()),
        Command(20, "false", (), "fails"),
    ]


@pytest.mark.parametrize("block", ["```console maybe\n$ true\n```", "```console\noutput\n```", "```console\n```"])
def test_block_that_is_none_is_refused(block):
    with pytest.raises(ValueError, match="line"):
        list(read_steps(block))


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        ("", "anything", True),
        ("one", "one\n", True),
        ("one", "two\n", False),
        ("one", "one\ntwo\n", False),
        ("one\n…", "one\ntwo\nthree\n", True),
        ("one\n…", "one\n", True),
        ("…\nthree", "one\ntwo\nthree\n", True),
        ("…\nthree", "one\nthree\nfour\n", False),
        ("up in … s:", "up in 9.8 s:\n", True),
        ("up in … s:", "up in 9.8 min:\n", False),
        ("| a  |\n+----+", "| a       |\n+---------+\n\n", True),
        ("a.c", "abc", False),
        ("a … b", "a  b\n", True),
        ("a … b", "a c b\n", True),
        ("a … b", "ab\n", False),
    ],
)
def test_output_is_compared_by_the_rule(shown, output, same):
    assert matches(tuple(shown.splitlines()), output) is same


def test_shell_keeps_its_state(tmp_path, shell):
    walk(page(tmp_path, "```yaml a.yaml\na: 1\n```", "```console\n$ x=7; mkdir d; cd d\n$ echo $x; cat ../a.yaml\n7\na: 1\n```"), shell)


def test_block_may_be_repeated(tmp_path, shell):
    walk(page(tmp_path, "```console until\n$ echo x >>f; wc -l <f\n3\n```"), shell)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("```console\n$ false\n```", "exit code 1"),
        ("```console fails\n$ true\n```", "exit code 0"),
        ("```console\n$ echo one >&2\ntwo\n```", "output:\none\n"),
        ("```console\n$ exit 3\n```", "the shell ended"),
    ],
)
def test_differences_are_reported(tmp_path, shell, block, told):
    with pytest.raises(AssertionError, match=told):
        walk(page(tmp_path, block), shell)
