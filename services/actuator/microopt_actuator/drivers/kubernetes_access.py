"""Where the Kubernetes API is and what proves who we are: a pod's service account, or a kubeconfig."""

import os
from pathlib import Path
from typing import Final

from kubernetes_asyncio import client, config

from microopt.errors import ConfigError

_IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"


async def connected(kubeconfig: str = "", context: str = "") -> client.ApiClient:
    """Return a client with the credentials of now.

    Args:
        kubeconfig: the file; empty is the service account in a pod, elsewhere `$KUBECONFIG` or `~/.kube/config`.
        context: which of the file's contexts; empty is its current one.

    Raises:
        ConfigError: there are no such credentials, or they cannot be used.
    """
    own = client.Configuration()
    in_cluster = not kubeconfig and not context and _IN_CLUSTER in os.environ
    paths = _paths(kubeconfig or os.environ.get("KUBECONFIG", "~/.kube/config"))
    where = "the pod's service account" if in_cluster else f"kubeconfig {os.pathsep.join(map(str, paths))}"
    if not in_cluster and not any(path.is_file() for path in paths):
        raise ConfigError(f"{where}: no such file; set kubeconfig in [actuator.kubernetes], or run in a pod")
    try:
        if in_cluster:
            config.load_incluster_config(own)
        else:
            files = os.pathsep.join(map(str, paths))
            await config.load_kube_config(files, context or None, own, persist_config=False)
        api = client.ApiClient(own)
    except Exception as error:  # whatever a broken file makes the library stumble over
        # Without the cause, and cut off: the library's texts may quote the file's entries, tokens among them.
        text = str(error).partition("{")[0] if isinstance(error, config.ConfigException) else ""
        raise ConfigError(f"{where} cannot be used: {text or type(error).__name__}") from None
    api.user_agent = "microopt-actuator"
    return api


def _paths(written: str) -> list[Path]:
    return [Path(path).expanduser() for path in written.split(os.pathsep) if path]
