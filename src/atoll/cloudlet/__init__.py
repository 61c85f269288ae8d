"""Cloudlets: virtual machines that a site makes from a base image, which the site holds already, and a small overlay, which it receives.

A *base* is an image of a generic guest: the guest's disk and, if the guest was stopped while it ran, its memory and the state of its
devices. An *overlay* holds the pages of another guest that the base lacks. Base and overlay together make a *launch image*, which can be
the base of further overlays.

- `pages`, `page_list`, `description`, `image`: pages and their digests; images as directories, identified by a digest of their content;
- `scan`, `classify`, `segment`, `compress`, `encode`: from the files of a guest to an overlay;
- `header`, `merkle`, `keys`: the signed head of an overlay;
- `source`, `fetch`, `partial`, `apply`, `inspection`: from an overlay to a launch image, while it arrives;
- `cache`: launch images on a site's disk.

docs/reference/cloudlet-formats.md describes the formats byte by byte.
"""
