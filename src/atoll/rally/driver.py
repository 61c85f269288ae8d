"""The program that runs in Rally's own environment: it checks tasks, or runs one.

It imports nothing of Atoll, because that environment does not have Atoll. `driver.py VERB INPUT OUTPUT` reads and writes JSON files.
"""

from __future__ import annotations

import copy
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

SERVICES = frozenset({"glance", "keystone", "neutron", "nova", "octavia"})
"""Rally's names of the services that a site may have."""

_Problem = tuple[str, str]
"""The part of a workload that is wrong, one of `rally`, `args`, `runner` and `contexts`, and the reason."""


def check(work: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Check tasks without a cloud.

    Args:
        work: the key `tasks` has a list of mappings. A task as data has the keys `task` and `supply`, the result of
            `atoll.rally.tasks.supply`. A task's file has `file`, its path, and `args`, the values of the variables of its template.

    Returns:
        For each task `task`, its data without variables, and `problems`, a list of the wrong parts with the reasons.
    """
    api = _api()
    return [_checked(each, api) for each in work["tasks"]]


def _api() -> Any:
    """Return Rally's programming interface, with all plug-ins and without the machine's configuration of Rally."""
    from rally.api import API
    from rally.plugins import load

    api = API(config_file="/dev/null", config_args=[], skip_db_check=True)
    load()
    return api


def _checked(each: Mapping[str, Any], api: Any) -> dict[str, Any]:
    from rally.task.task_cfg import TaskConfig

    try:
        task = _rendered(api, each["file"], each["args"]) if "file" in each else each["task"]
        config = TaskConfig(filled(task, each["supply"]) if "supply" in each else copy.deepcopy(task))
        problems = [problem for subtask in config.subtasks for workload in subtask["workloads"] for problem in _problems(workload)]
    except Exception as error:  # Rally's own errors and those of the template have no common class
        return {"task": None, "problems": [("rally", str(error) or type(error).__name__)]}
    return {"task": task, "problems": problems}


def _rendered(api: Any, file: str, variables: Mapping[str, Any]) -> Any:
    """Return the data of a task's file, whose template Rally renders."""
    import yaml

    path = Path(file)
    return yaml.safe_load(
        api.task.render_template(task_template=path.read_text(encoding="utf-8"), template_dir=str(path.parent), **variables)
    )


def _problems(workload: Mapping[str, Any]) -> Iterator[_Problem]:
    """Yield the wrong parts of a workload, by Rally's own validators of syntax."""
    from rally import exceptions
    from rally.task import context, hook, runner, scenario, sla

    name = workload["name"]
    try:
        found = scenario.Scenario.get(name)
    except exceptions.RallyException:
        close = get_close_matches(name, [each.get_name() for each in scenario.Scenario.get_all()], n=1)
        yield "rally", f"rally-openstack has no scenario {name}{f' (did you mean {close[0]}?)' if close else ''}"
        return
    if lacking := sorted(_services(found) - SERVICES):
        yield "rally", f"the scenario {name} needs {' and '.join(lacking)}, which a site does not have"
        return

    def errors(kind: Any, plugin: str, settings: Any, config: Any = None) -> list[str]:
        found = kind.validate(name=plugin, context=None, config=config, plugin_cfg=settings, vtype="syntax")
        return [_reason(str(each)) for each in found]

    parts: list[tuple[str, list[str]]] = [
        ("args", errors(scenario.Scenario, name, None, workload)),
        ("runner", errors(runner.ScenarioRunner, workload["runner_type"], workload["runner"])),
        *(("contexts", errors(context.Context, each, settings)) for each, settings in workload["contexts"].items()),
        *(("rally", errors(sla.SLA, each, settings)) for each, settings in workload["sla"].items()),
    ]
    for each in workload["hooks"]:
        parts.append(("rally", errors(hook.HookAction, *each["action"])))
        parts.append(("rally", errors(hook.HookTrigger, *each["trigger"])))
    yield from ((part, reason) for part, reasons in parts for reason in reasons)


def _reason(text: str) -> str:
    """Return the reason from a validator's message, which also has the validator's name, a schema, and a hint about a command of Rally."""
    return text.partition("Details: ")[2].partition("\n")[0].partition(" Use `rally")[0] or text


def _services(scenario: Any) -> set[str]:
    """Return the services that a scenario declares as required."""
    return {
        service.partition(".")[2].lower() if service.startswith("consts.") else service
        for name, args, kwargs in scenario._meta_get("validators", default=[])
        if name == "required_services"
        for service in (*_flat(args), *_flat(kwargs.get("services", ())))
    }


def _flat(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    return [each for item in given for each in _flat(item)]


def filled(task: Mapping[str, Any], supply: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task to which the missing arguments and contexts of its scenarios are added.

    Args:
        task: a task whose subtasks have `workloads`.
        supply: `args`, required arguments by name; `checked`, arguments whose default values Rally's validators refuse; `contexts`,
            the contexts of workloads that boot servers.
    """
    from rally import exceptions
    from rally.task import scenario

    made = copy.deepcopy(dict(task))
    for workload in (workload for subtask in made["subtasks"] for workload in subtask["workloads"]):
        (name, args), contexts = next(iter(workload["scenario"].items())), workload["contexts"]
        try:
            parameters = inspect.signature(scenario.Scenario.get(name).run).parameters
        except exceptions.RallyException:
            continue  # the check reports it
        needed = {each for each, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
        for each in sorted((needed & supply["args"].keys() | parameters.keys() & supply["checked"].keys()) - args.keys()):
            args[each] = {**supply["args"], **supply["checked"]}[each]
        if "flavor" in parameters or "servers" in contexts:
            workload["contexts"] = {**supply["contexts"], **contexts}
        workload["contexts"] = {each: settings for each, settings in workload["contexts"].items() if settings is not None}
    return made


def run(work: Mapping[str, Any]) -> dict[str, Any]:
    """Run a task against a cloud, with a new database.

    Args:
        work: `task` is the data of the task. `supply` is as in `filled`; `None` adds nothing. `database` is the path of the database.
            `platform` has the address and the account of the cloud in the form of Rally's platform `existing@openstack`. `begun` is the
            path of a file that is created when the first iteration starts. `report` is the path of Rally's JSON report.

    Returns:
        `status`, Rally's status of the task, and `error`, the reason why the task could not be run; empty if it was.
    """
    from rally.common import cfg
    from rally.common.db import schema
    from rally.env.env_mgr import EnvManager
    from rally.task.task_cfg import TaskConfig

    api = _api()
    cfg.CONF.set_override("connection", f"sqlite:///{work['database']}", group="database")
    schema.schema_create()
    environment = EnvManager.create("cell", {"existing@openstack": work["platform"]})
    task = filled(work["task"], work["supply"]) if work["supply"] else work["task"]
    config = TaskConfig(copy.deepcopy(task)).to_dict()
    hook = {"description": "", "action": {"sys_call": f"touch {work['begun']}"}, "trigger": {"event": {"unit": "iteration", "at": [1]}}}
    config["subtasks"][0]["workloads"][0]["hooks"].append(hook)
    made, error = api.task.create(deployment=environment.uuid, tags=[]), ""
    try:
        api.task.start(deployment=environment.uuid, config=config, task=made["uuid"])
    except Exception as raised:  # Rally's own errors have no common class
        error = str(raised) or type(raised).__name__
    status = str(api.task.get(task_id=made["uuid"])["status"])
    if status != "validation_failed":
        for path, content in api.task.export(tasks=[made["uuid"]], output_type="json", output_dest=work["report"])["files"].items():
            Path(path).write_text(content, encoding="utf-8")
    return {"status": status, "error": error}


def main(verb: str, source: str, target: str) -> None:
    """Read the input of a verb, and write its result; each file holds JSON."""
    work = json.loads(Path(source).read_text(encoding="utf-8"))
    result = {"check": check, "run": run}[verb](work)
    Path(target).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
