"""`atoll cloudlet upload`: uploads a base or an overlay to Glance, by openstacksdk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll import overlay_images
from atoll.cli.bar import Bar
from atoll.cli.output import print_json
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from atoll.cloudlet.upload import Glance, Uploaded

_FILE = click.Path(dir_okay=False, path_type=Path)


@verb(
    "upload",
    "atoll cloudlet upload debian --name debian-base --os-cloud mine\n"
    "atoll cloudlet upload app.overlay --name app --trust public.pem --os-cloud mine\n"
    "atoll exec paris -- atoll cloudlet upload debian --name debian-base --visibility public",
)
@click.option("--name", help="The image's name. [default: that of the directory or file]")
@click.option(
    "--trust", type=_FILE, multiple=True, metavar="PEM", help="The key of the overlay's maker; repeatable, if you trust several keys."
)
@click.option("--key", type=_FILE, metavar="PEM", help="The private key that signs a base with memory.")
@click.option(
    "--visibility", type=click.Choice(["private", "shared", "community", "public"]), help="Who can use the image. [default: Glance's]"
)
@click.option("--min-ram", type=click.IntRange(min=0), metavar="MIB", help="Least memory of a server from the image.")
@click.option("--keep", metavar="SITES", help="Sites that keep a copy, such as `everywhere` or `paris,lyon` (the property atoll_keep).")
@click.option("--os-cloud", metavar="NAME", help="The cloud of clouds.yaml. [default: $OS_CLOUD, or the OS_* variables]")
@json_option
@click.argument("path", metavar="BASE|OVERLAY", type=click.Path(exists=True, path_type=Path))
def upload(path: Path, trust: tuple[Path, ...], os_cloud: str | None, *, as_json: bool, **options: Any) -> None:
    """Upload a base or an overlay to Glance, with the properties by which sites start servers from it.

    BASE is the directory of a base. OVERLAY is a file, which needs --trust and is verified completely first. Both consist of a disk, or of
    the files that `capture` wrote. If your project has the image already, nothing is uploaded. `openstack server create --image NAME` then
    starts a server from the overlay, or from a base with memory, which needs --key. The server's site fetches the base if it lacks it.
    """
    from atoll.cloudlet.keys import read_signing_key, read_trusted_key
    from atoll.cloudlet.upload import ImageRequest, Uploads

    is_base = path.is_dir()
    if is_base == bool(trust):
        raise click.UsageError("an overlay needs --trust PEM, the key of the overlay's maker; a base needs no --trust")
    keys = [read_trusted_key(each) for each in trust]
    signer = read_signing_key(options["key"]) if options["key"] else None
    fields = {"visibility": options["visibility"], "min_ram": options["min_ram"], "atoll_keep": options["keep"]}
    wanted = ImageRequest(options["name"] or path.resolve().name, {name: value for name, value in fields.items() if value is not None})
    with _glance(os_cloud) as (glance, project), Bar() as bar:
        uploads = Uploads(glance, project, bar)
        found = uploads.base(path, wanted, signer) if is_base else uploads.overlay(path, keys, wanted)
    if as_json:
        print_json({"image": found.id, "name": wanted.name, "uploaded": found.made, "properties": dict(found.properties)})
        return
    click.echo(f"{found.id}  {wanted.name if found.made else 'exists already'}")
    _hint(found)


def _hint(found: Uploaded) -> None:
    base, key = found.properties.get(overlay_images.BASE), found.properties.get(overlay_images.KEY)
    if key:
        click.echo(f"key: {key}", err=True)
    if base and overlay_images.BASE_IMAGE not in found.properties:
        click.echo(f"note: no image that you can use holds the overlay's base {base[:16]}: upload the base too", err=True)


class _Checked:
    """A wrapper of a proxy of openstacksdk that raises an exception for each answer with an error status.

    Args:
        proxy: the wrapped proxy.
    """

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def request(path: str, **options: Any) -> Any:
            from openstack.exceptions import raise_from_response

            answer = getattr(self._proxy, method)(path, **options)
            raise_from_response(answer)
            return answer

        return request


@contextmanager
def _glance(cloud: str | None) -> Iterator[tuple[Glance, str]]:
    """Yield a client of Glance and the id of the user's project.

    Raises:
        AtollError: `cloudlet.upload`: the token has no project, or a request failed; the message is one line.
    """
    import openstack
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import SDKException

    from atoll.errors import AtollError

    try:
        connection = openstack.connect(cloud=cloud)
        project = connection.current_project_id
        if project is None:
            raise AtollError("cloudlet.upload", "the credentials name no project: expected a cloud with a project", "`--os-cloud NAME`")
        yield _Checked(connection.image), str(project)
    except (ClientException, SDKException) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise AtollError("cloudlet.upload", f"the cloud refused the image: {line}", "see `openstack image list`") from error
