"""The harness itself: what the other tests rely on holds against PostgreSQL directly."""
import harness.messages as m
from harness.cluster import PASSWORD_ROLES, Cluster


def test_every_password_role_logs_in(cluster: Cluster) -> None:
    for role, (secret, _, _) in PASSWORD_ROLES.items():
        if role == "u_expired": continue
        with cluster.wire(role, password=secret) as wire:
            assert wire.one("SELECT current_user") == role

def test_tls(tls_cluster, certificates):
    from harness.wire import Wire
    w=Wire.dial(tls_cluster.address); w.start_tls(certificates.client_context()); w.login()
    w.one("select 1")
