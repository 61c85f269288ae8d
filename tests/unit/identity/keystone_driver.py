"""Keystone without its HTTP: a program that executes, for each line of its standard input, code that calls Keystone's managers."""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path


def template(directory: str) -> None:
    from atoll.services.keystone import service as keystone

    keystone._make_template(Path(directory))


def schema(url: str) -> None:
    from atoll.services.keystone import service as keystone

    keystone.make_schema({"keystone": url})


def work(database: str, code: str, arguments: dict) -> object:
    """Execute code; `database` is a file of SQLite or a URL."""
    import keystone.conf
    import keystone.server
    from keystone.server import backends

    from atoll.services.ini import render
    from atoll.services.keystone.service import _make_keys, _sections

    home = Path(tempfile.mkdtemp(prefix="keystone-")) if "://" in database else Path(database).parent
    conf = home / "keystone.conf"
    conf.write_text(render(_sections(home, database if "://" in database else f"sqlite:///{database}?plugin=atoll")))
    _make_keys(home / "keys")
    keystone.server.configure(config_files=[str(conf)])
    for name, value in {"cache.enabled": False, "identity.password_hash_rounds": 4}.items():
        group, option = name.split(".")
        keystone.conf.CONF.set_override(option, value, group=group)
    managers = {name.removesuffix("_api"): manager for name, manager in backends.load_backends().items()}
    told: list[object] = []
    exec(compile(code, "<test>", "exec"), {"tell": told.append, **managers, **arguments})
    return told[0] if told else None


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps upstream's own output out of the answers
    from atoll.services.keystone import service as keystone

    keystone.preload()
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                database, code, arguments = json.loads(line)
                made = {"template": template, "schema": schema}.get(code)
                told = made(database) if made else work(database, code, arguments)
                answer = {"told": told}
            except BaseException:
                answer = {"error": traceback.format_exc()[-3000:]}
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            answers.write(pipe.read() + "\n")
        answers.flush()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
