"""Targets by pod, over the directories that kubelets and container runtimes make."""

from pathlib import Path

import pytest

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.cgroup import CgroupCpu
from microopt_actuator.drivers.cgroup_tree import CgroupTree

UID = "7f3d1c0e-9a4b-4c55-8d21-0d7c6a1e2b3f"
OTHER = "7f3d1c0e-9a4b-4c55-8d21-0d7c6a1e2b30"
UNDERSCORED = UID.replace("-", "_")
SANDBOX, UPF, NEXT = (letter * 64 for letter in ("a", "b", "c"))

PODS = [
    f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice",
    f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice",
    f"kubepods.slice/kubepods-pod{UNDERSCORED}.slice",
    f"kubepods/burstable/pod{UID}",
    f"kubepods/besteffort/pod{UID}",
    f"kubepods/pod{UID}",
    f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
    f"kubelet-kubepods-burstable-pod{UNDERSCORED}.slice",
    f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice",
    f"kubelet/kubepods/burstable/pod{UID}",
    f"kubelet/kubepods/pod{UID}",
    f"system.slice/docker-{NEXT}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice",
    f"docker/{NEXT}/kubelet/kubepods/besteffort/pod{UID}",
    f"edge.slice/edge-kubepods.slice/edge-kubepods-burstable.slice/edge-kubepods-burstable-pod{UNDERSCORED}.slice",
]
CONTAINERS = ["cri-containerd-{}.scope", "crio-{}.scope", "docker-{}.scope", "{}", "crio-{}"]


def tree(root: Path) -> CgroupTree:
    return CgroupTree(root, root / "no-proc")


def make(root: Path, version: int, path: str, *containers: str) -> Path:
    """Make a pod's cgroup with those of its containers, and return it; below it all has a limit file."""
    mount = root if version == 2 else root / "cpu"
    mount.mkdir(exist_ok=True)
    if version == 2:
        (root / "cgroup.controllers").write_text("cpu\n")
    pod = mount / path
    for directory in (*reversed(pod.parents), pod, *(pod / name for name in containers)):
        if directory != mount and directory.is_relative_to(mount):
            directory.mkdir(exist_ok=True)
            limit(directory, version)
    return pod


def limit(directory: Path, version: int) -> None:
    if version == 2:
        (directory / "cpu.max").write_text("max 100000\n")
    else:
        (directory / "cpu.cfs_quota_us").write_text("-1\n")
        (directory / "cpu.cfs_period_us").write_text("100000\n")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("path", PODS)
@pytest.mark.parametrize("form", CONTAINERS)
def test_a_pod_and_its_containers_are_found_wherever_they_are(tmp_path: Path, version: int, path: str, form: str):
    make(
        tmp_path, version, path.replace(UID, OTHER).replace(UNDERSCORED, OTHER.replace("-", "_")), form.format(UPF)
    )
    pod = make(tmp_path, version, path, *(form.format(number) for number in (SANDBOX, UPF)))
    group = tree(tmp_path).find(f"pod:{UID}")
    assert (group.directory, group.version) == (pod, version)
    for wanted in (UPF, UPF[:12], f"containerd://{UPF}", form.format(UPF)):
        assert tree(tmp_path).find(f"pod:{UID}/{wanted}").directory == pod / form.format(UPF)


def test_a_pod_of_systemds_driver_is_not_taken_for_one_whose_uid_only_begins_alike(tmp_path: Path):
    make(tmp_path, 2, PODS[0])
    make(tmp_path, 2, PODS[3])
    for uid in (UID[:-1], UID[:8], UID[1:], f"{UID}0"):
        with pytest.raises(TemporaryError, match="this node has no pod of this uid now"):
            tree(tmp_path).find(f"pod:{uid}")


@pytest.mark.parametrize("wanted", ["b", "cri-containerd-", "cri-containerd-b"])
def test_several_containers_are_an_error_that_names_them(tmp_path: Path, wanted: str):
    names = [f"cri-containerd-{one}.scope" for one in (UPF, f"b{SANDBOX[1:]}")]
    pod = make(tmp_path, 2, PODS[0], *names)
    with pytest.raises(PermanentError) as error:
        tree(tmp_path).find(f"pod:{UID}/{wanted}")
    assert "is 2 containers" in str(error.value)
    assert all(name in str(error.value) for name in names)
    (pod / names[1] / "cpu.max").unlink()
    (pod / names[1]).rmdir()
    assert tree(tmp_path).find(f"pod:{UID}/{wanted}").directory == pod / names[0]


def test_a_pod_that_is_there_twice_is_an_error_that_names_both(tmp_path: Path):
    both = [make(tmp_path, 2, path) for path in (PODS[0], PODS[8])]
    with pytest.raises(PermanentError) as error:
        tree(tmp_path).find(f"pod:{UID}")
    assert all(str(one) in str(error.value) for one in both)


def test_what_is_no_container_is_not_one(tmp_path: Path):
    make(tmp_path, 2, PODS[0], f"crio-conmon-{UPF}.scope", "crio-nonsense.scope", f"crio-{SANDBOX}.scope")
    with pytest.raises(TemporaryError, match=rf"no such container now, but crio-{SANDBOX}\.scope"):
        tree(tmp_path).find(f"pod:{UID}/{UPF}")
    assert tree(tmp_path).find(f"pod:{UID}/crio-").directory.name == f"crio-{SANDBOX}.scope"


def test_on_a_hybrid_host_a_pod_is_limited_where_the_cpu_controller_is(tmp_path: Path):
    (tmp_path / "unified" / PODS[0]).mkdir(parents=True)
    (tmp_path / "unified" / "cgroup.controllers").write_text("memory\n")
    pod = make(tmp_path, 1, PODS[0], f"cri-containerd-{UPF}.scope")
    assert tree(tmp_path).find(f"pod:{UID}").directory == pod
    assert tree(tmp_path).find(f"pod:{UID}/{UPF}").directory.parent == pod
    (tmp_path / "unified" / PODS[0] / "cpu.max").write_text("max 100000\n")
    assert tree(tmp_path).find(f"pod:{UID}").version == 2


def remove(pod: Path) -> None:
    for file in sorted(pod.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    pod.rmdir()


def test_a_container_that_is_made_anew_is_found_by_the_same_driver(tmp_path: Path):
    former, new = (f"cri-containerd-{one}.scope" for one in (UPF, f"b{SANDBOX[1:]}"))
    pod = make(tmp_path, 2, PODS[0], former)
    cpu, target = CgroupCpu(tmp_path), f"pod:{UID}/b"
    cpu.write_millicores(target, 1500)
    assert (pod / former / "cpu.max").read_text() == "150000 100000"
    make(tmp_path, 2, PODS[0], new)
    with pytest.raises(PermanentError, match="is 2 containers"):
        cpu.read_millicores(target)
    remove(pod / former)
    assert cpu.read_millicores(target) is None
    cpu.write_millicores(target, 1500)
    assert (pod / new / "cpu.max").read_text() == "150000 100000"


def test_a_pod_that_is_gone_is_a_temporary_error_and_found_again_in_another_class(tmp_path: Path):
    cpu, target = CgroupCpu(tmp_path), f"pod:{UID}"
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    with pytest.raises(TemporaryError, match="may come back"):
        cpu.read_millicores(target)
    for path in (PODS[0], PODS[2]):
        pod = make(tmp_path, 2, path, f"cri-containerd-{UPF}.scope")
        assert cpu.read_millicores(target) is None
        remove(pod)
        with pytest.raises(TemporaryError, match="may come back"):
            cpu.write_millicores(target, 1500)


def test_a_pods_limit_rules_its_containers(tmp_path: Path):
    make(tmp_path, 2, PODS[0], f"cri-containerd-{UPF}.scope")
    cpu = CgroupCpu(tmp_path)
    cpu.write_millicores(f"pod:{UID}", 500)
    cpu.write_millicores(f"pod:{UID}/{UPF}", 1500)
    assert cpu.read_millicores(f"pod:{UID}/{UPF}") == 500


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("pod:", "'' is no pod's uid"),
        ("pod:../x", r"'\.\.' is no pod's uid"),
        ("pod:a*b", "is no pod's uid"),
        ("pod:a_b", "is no pod's uid"),
        (f"pod:{UID}/", "'' is no container's id"),
        (f"pod:{UID}/..", "is no container's id"),
        (f"pod:{UID}/a/b", "is no container's id"),
        (f"pod:{UID}/a\0", "is no container's id"),
        (f"pod:{'a' * 300}", "is no pod's uid"),
    ],
)
def test_what_names_no_pod_or_container_is_refused(tmp_path: Path, target: str, why: str):
    make(tmp_path, 2, PODS[0], f"cri-containerd-{UPF}.scope")
    with pytest.raises(PermanentError, match=why):
        tree(tmp_path).find(target)


def test_a_root_without_any_hierarchy_is_refused_with_the_remedy(tmp_path: Path):
    with pytest.raises(PermanentError, match="mount the host's"):
        tree(tmp_path).find(f"pod:{UID}")


def test_a_link_is_no_pod(tmp_path: Path):
    pod = make(tmp_path, 2, "elsewhere")
    (tmp_path / "kubepods").mkdir()
    (tmp_path / "kubepods" / f"pod{UID}").symlink_to(pod)
    with pytest.raises(TemporaryError, match="no pod of this uid"):
        tree(tmp_path).find(f"pod:{UID}")
