"""libvirt's definitions of guests as Nova makes them, shortened."""

from __future__ import annotations

FEATURES = ("<feature policy='require' name='erms'/>", "<feature policy='disable' name='vme'/>")


def definition(
    name: str = "instance-1",
    *,
    memory: int = 524288,
    machine: str = "pc-i440fx-10.0",
    slots: tuple[int, int, int] = (2, 4, 5),
    interfaces: int = 1,
    drives: str = "",
    features: tuple[str, ...] = (),
    live: bool = False,
) -> str:
    """Return the definition of a guest; a live one has aliases, other paths, and the features of its CPU."""
    address = "<address type='pci' domain='0x0000' bus='0x00' slot='0x{:02x}' function='0x0'/>"
    alias = "<alias name='x'/>" if live else ""
    cards = "".join(
        f"<interface type='ethernet'><mac address='fa:16:3e:00:00:0{number}'/><target dev='tap{number}'/><model type='virtio'/>"
        f"{address.format(8 + number)}{alias}</interface>"
        for number in range(interfaces)
    )
    return f"""<domain type='qemu'>
  <name>{name}</name><uuid>72a5ac82-5636-4cc4-b022-73d8598deb68</uuid>
  <metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>web</nova:name></nova:instance></metadata>
  <memory unit='KiB'>{memory}</memory><vcpu placement='static'>1</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <features><acpi/><apic/></features>
  <cpu mode='{"custom" if live else "host-model"}'>{"<model fallback='forbid'>EPYC</model>" if live else ""}
    <topology sockets='1' cores='1' threads='1'/>{"".join(features)}</cpu>
  <clock offset='utc'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><source file='/instances/{name}/disk'/><target dev='vda' bus='virtio'/>{alias}
      {address.format(slots[1])}</disk>
    {drives}
    <controller type='pci' index='0' model='pci-root'/>{cards}
    <serial type='tcp'><source mode='bind' service='{10001 if live else 10000}'/><target type='isa-serial' port='0'/></serial>
    <graphics type='vnc' port='5900'/>
    <video><model type='virtio' heads='1'/>{address.format(slots[0])}</video>
    <memballoon model='virtio'><stats period='10'/>{address.format(slots[2])}</memballoon>
  </devices>
</domain>"""


CDROM = """<disk type='file' device='cdrom'><target dev='hda' bus='ide'/>
<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"""
