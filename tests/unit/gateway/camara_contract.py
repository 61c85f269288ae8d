"""The answers of the edge APIs of CAMARA and ETSI, as JSON Schemas that were written from a reading of the published OpenAPI files.

The published files are not part of this repository. If the environment variable `ATOLL_OPENAPI` names a directory that has them
(`optimal-edge-discovery.yaml`, …, and ETSI's as `dev_app.yaml`, `amsi.yaml`, `app_pkgm.yaml` and `app_lcm.yaml`, of the versions in
docs/), each answer is checked against them too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from referencing import Registry
from referencing.jsonschema import DRAFT202012

jsonschema: Any = import_module("jsonschema")

Schema = dict[str, Any]

CORRELATOR = re.compile(r"[a-zA-Z0-9\-_:;./<>{}]{0,256}")

CODES: dict[int, set[str]] = {
    400: {"INVALID_ARGUMENT", "OUT_OF_RANGE"},
    401: {"UNAUTHENTICATED"},
    403: {"PERMISSION_DENIED", "INVALID_TOKEN_CONTEXT"},
    404: {"NOT_FOUND", "IDENTIFIER_NOT_FOUND"},
    405: {"METHOD_NOT_ALLOWED"},
    409: {"ABORTED", "ALREADY_EXISTS"},
    415: {"UNSUPPORTED_MEDIA_TYPE"},
    422: {"SERVICE_NOT_APPLICABLE", "MISSING_IDENTIFIER", "UNSUPPORTED_IDENTIFIER", "UNNECESSARY_IDENTIFIER"},
    429: {"QUOTA_EXCEEDED", "TOO_MANY_REQUESTS"},
    500: {"INTERNAL"},
    501: {"NOT_IMPLEMENTED"},
    503: {"UNAVAILABLE"},
}


def fields(needed: Mapping[str, Schema], **optional: Schema) -> Schema:
    """Return the schema of an object that has the needed properties and may have the optional ones."""
    return {"type": "object", "required": sorted(needed), "properties": {**needed, **optional}, "additionalProperties": False}


def array(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


UUID: Schema = {"type": "string", "format": "uuid"}
TEXT: Schema = {"type": "string"}
LABEL: Schema = {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9-]{0,53}[A-Za-z0-9])?$"}
PORT: Schema = {"type": "integer", "minimum": 0, "maximum": 65535}
IPV4: Schema = {"type": "string", "format": "ipv4"}
IPV6: Schema = {"type": "string", "format": "ipv6"}
ZONE_STATUS: Schema = {"enum": ["active", "inactive", "unknown"]}
DEVICE: Schema = {"type": "object", "minProperties": 1, "maxProperties": 1}
ERROR = fields({"status": {"type": "integer"}, "code": TEXT, "message": {"type": "string", "minLength": 1, "maxLength": 512}})

_ZONE_NAMES = {"edgeCloudZoneId": UUID, "edgeCloudZoneName": LABEL, "edgeCloudProvider": LABEL}

ENDPOINT = {
    **fields(
        {"port": PORT, "edgeCloudZone": fields(_ZONE_NAMES, edgeCloudZoneStatus=ZONE_STATUS, edgeCloudRegion=LABEL)},
        ipv4Addresses=array(IPV4, 1),
        ipv6Addresses=array(IPV6, 1),
        applicationEndpointDescription=TEXT,
    ),
    "anyOf": [{"required": ["ipv4Addresses"]}, {"required": ["ipv6Addresses"]}],
}

EAM_ID: Schema = {"type": "string", "pattern": r"^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"}
EAM_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{1,63}$"}
EAM_PROVIDER: Schema = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{7,63}$"}
INTERFACE_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_]{2,30}[A-Za-z0-9]$"}
APP_STATUS: Schema = {"enum": ["ready", "instantiating", "failed", "terminating", "unknown"]}

ACCESS = fields({"port": PORT}, ipv4Addresses=array(IPV4, 1), ipv6Addresses=array(IPV6, 1))

MANIFEST = fields(
    {
        "name": EAM_NAME,
        "version": TEXT,
        "appProvider": EAM_PROVIDER,
        "packageType": {"enum": ["QCOW2"]},
        "appRepo": fields({"type": {"enum": ["PRIVATEREPO", "PUBLICREPO"]}, "imagePath": TEXT}, checksum=TEXT, authType={"enum": ["NONE"]}),
        "requiredResources": fields({"infraKind": {"enum": ["virtualMachine"]}, "numCPU": PORT, "memory": PORT}),
        "componentSpec": array(
            fields(
                {
                    "componentName": TEXT,
                    "networkInterfaces": array(
                        fields(
                            {
                                "interfaceId": INTERFACE_ID,
                                "protocol": {"enum": ["TCP", "UDP", "ANY"]},
                                "port": PORT,
                                "visibilityType": {"enum": ["VISIBILITY_EXTERNAL", "VISIBILITY_INTERNAL"]},
                            }
                        ),
                        1,
                    ),
                }
            )
        ),
        "appId": EAM_ID,
    },
    operatingSystem=fields(dict.fromkeys(("architecture", "family", "version", "license"), TEXT)),
)

APP_INSTANCE = fields(
    {"name": EAM_NAME, "appId": EAM_ID, "appInstanceId": EAM_ID, "appProvider": EAM_PROVIDER, "edgeCloudZoneId": EAM_ID},
    status=APP_STATUS,
    componentEndpointInfo=array(fields({"interfaceId": INTERFACE_ID, "accessPoints": ACCESS}), 1),
)

_EAM = "edge-application-management"

PLACE = fields({"civicAddressElement": array(fields({"caType": {"type": "integer"}, "caValue": TEXT}), 1)})
_NAMES = dict.fromkeys(("appName", "appProvider", "appSoftVersion", "appDVersion", "appDescription"), TEXT)
_CHARACTERISTICS = fields(
    {},
    memory={"type": "integer"},
    storage={"type": "integer"},
    latency={"type": "integer"},
    bandwidth={"type": "integer"},
    serviceCont={"enum": [0, 1]},
)
AVAILABLE = fields({"appInfo": fields({"appDId": TEXT} | _NAMES, appCharcs=_CHARACTERISTICS)})
CONTEXT = fields(
    {
        "contextId": {"type": "string", "maxLength": 32},
        "associateDevAppId": TEXT,
        "appInfo": fields(
            _NAMES | {"userAppInstanceInfo": array(fields({"appInstanceId": TEXT}, referenceURI={"format": "uri"}, appLocation=PLACE))},
            appDId=TEXT,
        ),
    },
    appAutoInstantiation={"type": "boolean"},
)
LOCATIONS = fields({"associateDevAppId": TEXT, "appInfo": fields(_NAMES, availableLocations=array(fields({"appLocation": PLACE})))})
DETAILS = fields({"title": TEXT, "status": {"type": "integer"}, "detail": {"type": "string", "minLength": 1}})

_MEC = "dev_app"
_AMSI = "amsi"
_PACKAGES = "app_pkgm"
_LIFE = "app_lcm"
ETSI = {_MEC, _AMSI, _PACKAGES, _LIFE}

_LINK = fields({"href": {"type": "string", "format": "uri"}})
_DEVICE = fields(
    {"associateId": TEXT, "contextTransferState": {"enum": [0, 1]}},
    appMobilityServiceLevel=fields({"appMobilityServiceLevel": {"enum": [1, 2, 3]}}),
)
_REGISTRATION = fields(
    {"appMobilityServiceId": UUID, "serviceConsumerId": fields({"appInstanceId": UUID}), "expiryTime": {"type": "integer"}},
    deviceInformation=array(_DEVICE),
)
REGISTERED = fields({"RegistrationInfo": _REGISTRATION})
_TIME = fields({"seconds": {"type": "integer"}, "nanoSeconds": {"type": "integer"}})
_SUBSCRIPTION = fields(
    {
        "subscriptionType": {"enum": ["MobilityProcedureSubscription"]},
        "websockNotifConfig": fields({"websocketUri": {"type": "string", "pattern": "^ws://"}}),
        "_links": fields({"self": _LINK}),
        "filterCriteria": fields({"associateId": array(TEXT), "mobilityStatus": array({"enum": [1, 2, 3]})}, appInstanceId=UUID),
    },
    expiryDeadline=_TIME,
)
SUBSCRIBED = fields({"MobilityProcedureSubscription": _SUBSCRIPTION})
_TYPED_LINK = fields({"href": {"type": "string", "format": "uri"}, "subscriptionType": TEXT})
_LINKS = fields({"SubscriptionLinkList": fields({"_links": fields({"self": _LINK, "subscription": array(_TYPED_LINK)})})})
_COMMUNICATION = fields({"ipAddresses": array(fields({"host": TEXT, "port": PORT}), 1)})
ADJACENT = fields(
    {
        "appInstanceId": UUID,
        "appDId": UUID,
        "appInstanceCommLink": array(_COMMUNICATION, 1),
        "registeredInstanceId": UUID,
    },
    mecHostInformation=fields({"hostName": TEXT, "hostId": fields({"site": TEXT})}),
)
NOTIFICATION = fields(
    {
        "notificationType": {"enum": ["MobilityProcedureNotification"]},
        "timeStamp": _TIME,
        "associateId": array(TEXT, 1),
        "mobilityStatus": {"enum": [1, 2, 3]},
        "targetAppInfo": fields({"appInstanceId": UUID}, commInterface=_COMMUNICATION),
        "_links": fields({"subscription": _LINK}),
    }
)

_SUM = fields({"algorithm": TEXT, "hash": TEXT})
_PACKAGE = fields(
    dict.fromkeys(("id", "appDId"), UUID)
    | dict.fromkeys(("appName", "appProvider", "appSoftwareVersion", "appDVersion"), TEXT)
    | {
        "checksum": _SUM,
        "softwareImages": array({"type": "object"}, 1),
        "onboardingState": {"enum": ["CREATED", "UPLOADING", "PROCESSING", "ONBOARDED"]},
        "operationalState": {"enum": ["ENABLED", "DISABLED"]},
        "usageState": {"enum": ["IN_USE", "NOT_IN_USE"]},
        "mecInfo": array(TEXT, 1),
        "_links": fields({"self": _LINK, "appD": _LINK, "appPkgContent": _LINK}),
    },
    userDefinedData={"type": "object"},
)
_MODIFIED = fields({"AppPkgInfoModifications": fields({"operationalState": {"enum": ["ENABLED", "DISABLED"]}})})
_DESCRIPTOR = {
    "type": "object",
    "required": ["appDId", "appName", "appProvider", "appSoftVersion", "appDVersion", "mecVersion", "appDescription", "appExtCpd"],
    "properties": {"swImageDescriptor": array({"type": "object"}, 1), "appExtCpd": array({"type": "object"}, 1)},
}
_NO_LINKS = fields({"_links": fields({"self": _LINK, "subscriptions": {"type": "array", "maxItems": 0}})})
_LCM_INSTANCE = fields(
    dict.fromkeys(("id", "appDId", "appPkgId"), UUID)
    | dict.fromkeys(("appProvider", "appName", "appSoftVersion", "appDVersion"), TEXT)
    | {
        "instantiationState": {"enum": ["NOT_INSTANTIATED", "INSTANTIATED"]},
        "_links": fields({"self": _LINK}, instantiate=_LINK, terminate=_LINK, operate=_LINK),
    },
    appInstanceName=TEXT,
    appInstanceDescription=TEXT,
    instantiatedAppState=fields({"operationalState": {"enum": ["STARTED", "STOPPED"]}}),
    communicationInterface=_COMMUNICATION,
)
_OCCURRENCE = fields(
    {
        "id": UUID,
        "operationState": {"enum": ["STARTING", "PROCESSING", "COMPLETED", "FAILED", "FAILED_TEMP"]},
        "stateEnteredTime": _TIME,
        "startTime": _TIME,
        "lcmOperation": {"enum": ["INSTANTIATE", "OPERATE", "TERMINATE"]},
        "isCancelPending": {"type": "boolean"},
        "_links": fields({"self": _LINK, "appInstance": _LINK}),
    },
    operationParams={"type": "object"},
)
_ONE_PACKAGE, _ONE_INSTANCE = "/onboarded_app_packages/{appDId}", "/app_instances/{appInstanceId}"
_ONE_OCCURRENCE = "/app_lcm_op_occs/{appLcmOpOccId}"

ANSWERS: dict[tuple[str, str, str], dict[int, Schema | None]] = {
    ("optimal-edge-discovery", "GET", "/regions"): {200: array(TEXT)},
    ("simple-edge-discovery", "POST", "/retrieve-closest-edge-cloud-zone"): {200: fields(_ZONE_NAMES, device=DEVICE)},
    ("application-endpoint-discovery", "POST", "/retrieve-optimal-app-endpoints"): {
        200: fields(
            {"applicationEndpoints": array(ENDPOINT, 1), "appId": UUID},
            applicationServerProviderName=TEXT,
            device=DEVICE,
        )
    },
    ("optimal-edge-discovery", "POST", "/retrieve-optimal-edge-cloud-zones"): {
        200: fields(
            {"edgeCloudZones": array(fields(_ZONE_NAMES, edgeCloudRegion=TEXT, status=ZONE_STATUS), 1)},
            applicationProfileId=UUID,
            device=DEVICE,
        )
    },
    (_EAM, "POST", "/apps"): {201: fields({"appId": EAM_ID})},
    (_EAM, "GET", "/apps"): {200: array(MANIFEST)},
    (_EAM, "GET", "/apps/{appId}"): {200: fields({"appManifest": MANIFEST})},
    (_EAM, "DELETE", "/apps/{appId}"): {204: None},
    (_EAM, "POST", "/appinstances"): {202: APP_INSTANCE},
    (_EAM, "GET", "/appinstances"): {200: array(APP_INSTANCE)},
    (_EAM, "DELETE", "/appinstances/{appInstanceId}"): {202: None},
    (_EAM, "POST", "/deployments"): {},
    (_EAM, "GET", "/deployments"): {200: {"maxItems": 0}},
    (_EAM, "GET", "/clusters"): {200: {"maxItems": 0}},
    (_EAM, "GET", "/edge-cloud-zones"): {
        200: array(fields(_ZONE_NAMES, edgeCloudZoneStatus=ZONE_STATUS, edgeCloudRegion=TEXT), 1),
    },
    (_MEC, "GET", "/app_list"): {200: fields({"ApplicationList": fields({"appList": array(AVAILABLE)})})},
    (_MEC, "POST", "/app_contexts"): {201: fields({"AppContext": CONTEXT})},
    (_MEC, "PUT", "/app_contexts/{contextId}"): {204: None},
    (_MEC, "DELETE", "/app_contexts/{contextId}"): {204: None},
    (_AMSI, "GET", "/app_mobility_services"): {200: array(_REGISTRATION)},
    (_AMSI, "POST", "/app_mobility_services"): {201: REGISTERED},
    (_AMSI, "GET", "/app_mobility_services/{appMobilityServiceId}"): {200: REGISTERED},
    (_AMSI, "PUT", "/app_mobility_services/{appMobilityServiceId}"): {200: REGISTERED},
    (_AMSI, "DELETE", "/app_mobility_services/{appMobilityServiceId}"): {204: None},
    (_AMSI, "POST", "/app_mobility_services/{appMobilityServiceId}/deregister_task"): {204: None},
    (_AMSI, "GET", "/subscriptions"): {200: _LINKS},
    (_AMSI, "POST", "/subscriptions"): {201: SUBSCRIBED},
    (_AMSI, "GET", "/subscriptions/{subscriptionId}"): {200: SUBSCRIBED},
    (_AMSI, "PUT", "/subscriptions/{subscriptionId}"): {200: SUBSCRIBED},
    (_AMSI, "DELETE", "/subscriptions/{subscriptionId}"): {204: None},
    (_AMSI, "GET", "/queries/adjacent_app_instances"): {200: array(ADJACENT)},
    (_PACKAGES, "GET", "/onboarded_app_packages"): {200: array(_PACKAGE)},
    (_PACKAGES, "POST", "/onboarded_app_packages"): {201: fields({"AppPkgInfo": _PACKAGE})},
    (_PACKAGES, "GET", _ONE_PACKAGE): {200: fields({"AppPkgInfo": _PACKAGE})},
    (_PACKAGES, "PATCH", _ONE_PACKAGE): {200: _MODIFIED},
    (_PACKAGES, "DELETE", _ONE_PACKAGE): {204: None},
    (_PACKAGES, "GET", f"{_ONE_PACKAGE}/appd"): {200: fields({"AppD": _DESCRIPTOR})},
    (_PACKAGES, "GET", f"{_ONE_PACKAGE}/package_content"): {},
    (_PACKAGES, "PUT", f"{_ONE_PACKAGE}/package_content"): {},
    (_PACKAGES, "GET", "/subscriptions"): {200: fields({"AppPkgSubscriptionLinkList": _NO_LINKS})},
    (_PACKAGES, "POST", "/subscriptions"): {},
    (_LIFE, "GET", "/app_instances"): {200: array(_LCM_INSTANCE)},
    (_LIFE, "POST", "/app_instances"): {201: fields({"AppInstanceInfo": _LCM_INSTANCE})},
    (_LIFE, "GET", _ONE_INSTANCE): {200: fields({"AppInstanceInfo": _LCM_INSTANCE})},
    (_LIFE, "DELETE", _ONE_INSTANCE): {204: None},
    (_LIFE, "POST", f"{_ONE_INSTANCE}/instantiate"): {202: None},
    (_LIFE, "POST", f"{_ONE_INSTANCE}/operate"): {202: None},
    (_LIFE, "POST", f"{_ONE_INSTANCE}/terminate"): {202: None},
    (_LIFE, "POST", f"{_ONE_INSTANCE}/configure_platform_for_app"): {},
    (_LIFE, "GET", "/app_lcm_op_occs"): {200: array(_OCCURRENCE)},
    (_LIFE, "GET", _ONE_OCCURRENCE): {200: fields({"AppLcmOpOcc": _OCCURRENCE})},
    (_LIFE, "POST", f"{_ONE_OCCURRENCE}/cancel"): {},
    (_LIFE, "POST", f"{_ONE_OCCURRENCE}/fail"): {},
    (_LIFE, "POST", f"{_ONE_OCCURRENCE}/retry"): {},
    (_LIFE, "GET", "/subscriptions"): {200: fields({"AppInstanceSubscriptionLinkList": _NO_LINKS})},
    (_LIFE, "POST", "/subscriptions"): {},
    (_MEC, "POST", "/obtain_app_loc_availability"): {200: fields({"ApplicationLocationAvailability": LOCATIONS})},
}
"""Schemas of successful answers by API, method and path, and by status; `None` for an answer without a body."""


def check(operation: tuple[str, str, str], status: int, body: Any, headers: Mapping[str, str]) -> None:
    """Check an answer of an operation against the schemas of the standard."""
    assert CORRELATOR.fullmatch(headers["x-correlator"])
    media_type = "application/json"
    if status < 400:
        expected = ANSWERS[operation]
        assert status in expected
        schema = expected[status]
    else:
        assert body["status"] == status
        etsi = operation[0] in ETSI
        assert body["title" if etsi else "code"] in CODES[status]
        schema, media_type = (DETAILS, "application/problem+json") if etsi else (ERROR, "application/json")
    if schema is not None:
        assert headers["Content-Type"].startswith(media_type)
        _validate(schema, body)
    if body is not None and (published := _published(operation, status)) is not None:
        _validate(published, body)


@cache
def _registry() -> Registry[Any]:
    directory = Path(os.environ["ATOLL_OPENAPI"])
    files = {file.stem: _without_placeholders(yaml.safe_load(file.read_text())) for file in directory.glob("*.yaml")}
    pairs = ((f"urn:{name}", DRAFT202012.create_resource(content)) for name, content in files.items())
    return Registry().with_resources(pairs)


def _without_placeholders(content: Any) -> Any:
    """Return a published file without enumerations whose only value says that the description has the values, as ETSI MEC 010-2's have."""
    if isinstance(content, dict):
        return {name: _without_placeholders(value) for name, value in content.items() if value != ["SEE_DESCRIPTION"]}
    return [_without_placeholders(each) for each in content] if isinstance(content, list) else content


def _published(operation: tuple[str, str, str], status: int) -> Schema | None:
    """Return the published schema of an answer; `None` without the files, or if they describe no body for this status."""
    if "ATOLL_OPENAPI" not in os.environ:
        return None
    api, method, path = operation
    content = _registry().contents(f"urn:{api}")
    answers = content["paths"][path][method.lower()]["responses"]
    if status < 400:
        assert str(status) in answers, f"{api} has no answer {status} to {method} {path}"
    answer, pointer = answers.get(str(status)), f"/paths/{path.replace('/', '~1')}/{method.lower()}/responses/{status}"
    if answer is not None and "$ref" in answer:
        pointer = answer["$ref"].removeprefix("#")
        answer = content["components"]["responses"][pointer.rpartition("/")[2]]
    if answer is None or "content" not in answer:
        return None
    media_type = next(iter(answer["content"])).replace("/", "~1")
    return {"$ref": f"urn:{api}#{pointer}/content/{media_type}/schema"}


def check_structure(name: str, schema: Schema, body: Any) -> None:
    """Check a body that is no answer, such as a notification, against a schema and the structure of a name in `amsi.yaml`."""
    _validate(schema, body)
    if "ATOLL_OPENAPI" in os.environ:
        _validate({"$ref": f"urn:{_AMSI}#/components/schemas/{name}"}, body)


def _validate(schema: Schema, body: Any) -> None:
    registry = _registry() if "ATOLL_OPENAPI" in os.environ else Registry()
    checker = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator(schema, registry=registry, format_checker=checker).validate(body)
