"""Servers from overlays: a disk that is made from a base and an overlay, both of them images of Glance.

- `overlays`: the properties of the images, the keys whose signatures are accepted, and the names of images in the site's cache;
- `disks`: the steps from two images to a disk;
- `gateway_client`: has the gateway bring the base of an overlay to the site;
- `worker`: the process that applies overlays.

`patches/nova/overlay_images.py` connects them with Nova's libvirt driver.
"""
