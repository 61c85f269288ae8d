"""Functions that need privileges, with oslo.privsep's real contexts."""

from upstream import inside

PRIVILEGES = """
    import os
    from oslo_privsep import capabilities, priv_context
    early = priv_context.PrivContext(__name__, cfg_section="early", pypath=__name__ + ".early", capabilities=[capabilities.CAP_SYS_ADMIN])
    @early.entrypoint
    def where(): return os.getpid()
    from atoll.services.patches.shared import privsep
    privsep.disable_privsep_daemons()
    late = priv_context.PrivContext(__name__, cfg_section="late", pypath=__name__ + ".late", capabilities=[capabilities.CAP_SYS_ADMIN])
    @late.entrypoint
    def there(): return os.getpid()
    late.set_client_mode(True)
    tell([where() == os.getpid(), there() == os.getpid()])
"""


def test_privileged_functions_run_where_they_are_called():
    assert inside(PRIVILEGES) == [True, True]


def test_upstream_would_start_a_helper():
    """If this fails, patches/shared/privsep.py can go."""
    code = """
        from oslo_privsep import capabilities, priv_context
        made = priv_context.PrivContext(__name__, cfg_section="x", pypath=__name__ + ".x", capabilities=[capabilities.CAP_SYS_ADMIN])
        tell(made.client_mode)
    """
    assert inside(code) is True
