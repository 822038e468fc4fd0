from pathlib import Path

import pytest

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.cgroup_files import CpuGroup
from microopt_actuator.drivers.cgroup_tree import CgroupTree, ProcessPaths, parse_proc_cgroup

HYBRID_LINES = "12:cpuset:/\n4:cpu,cpuacct:/system.slice/gnb\n1:name=systemd:/system.slice\n0::/system.slice\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "proc").mkdir()
    return tmp_path / "cgroup"


def tree(root: Path) -> CgroupTree:
    return CgroupTree(root, root.parent / "proc")


def v2_mount(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "cgroup.controllers").write_text("cpuset cpu memory\n")
    return directory


def v2_group(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "cpu.max").write_text("max 100000\n")
    return directory


def v1_group(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpu.cfs_quota_us").write_text("-1\n")
    (directory / "cpu.cfs_period_us").write_text("100000\n")
    return directory


def process(root: Path, pid: int, lines: str) -> None:
    (root.parent / "proc" / str(pid)).mkdir()
    (root.parent / "proc" / str(pid) / "cgroup").write_text(lines)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("0::/kubepods.slice/pod1\n", ProcessPaths(None, "/kubepods.slice/pod1")),
        ("3:cpuset:/a\n2:cpuacct:/b\n1:cpu:/c\n", ProcessPaths("/c", None)),
        (HYBRID_LINES, ProcessPaths("/system.slice/gnb", "/system.slice")),
        ("4:cpuacct,cpu:/odd:name::x\n0::/\n", ProcessPaths("/odd:name::x", "/")),
        ("5:memory:/a\n", ProcessPaths(None, None)),
        ("nonsense\n", ProcessPaths(None, None)),
        ("", ProcessPaths(None, None)),
    ],
)
def test_the_paths_of_a_process_come_from_its_cpu_and_v2_lines(text: str, paths: ProcessPaths):
    assert parse_proc_cgroup(text) == paths


@pytest.mark.parametrize("text", ["0::/pod1 (deleted)\n", "1:cpu:/pod1 (deleted)\n0::/\n"])
def test_a_process_whose_cgroup_was_removed_is_a_temporary_error(text: str):
    with pytest.raises(TemporaryError, match="removed"):
        parse_proc_cgroup(text)


def test_a_v2_group_is_found_under_the_root_itself(root: Path):
    group = v2_group(v2_mount(root) / "kubepods" / "pod1")
    assert tree(root).find("/kubepods/pod1") == CpuGroup(group, root, 2)


def test_slashes_too_many_name_the_same_group(root: Path):
    v2_group(v2_mount(root) / "kubepods" / "pod1")
    assert tree(root).find("//kubepods/./pod1/").path == "/kubepods/pod1"


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_v1_group_is_found_under_the_cpu_hierarchy(root: Path, mount: str):
    group = v1_group(root / mount / "pod1")
    assert tree(root).find("/pod1") == CpuGroup(group, root / mount, 1)


def test_the_usual_link_from_cpu_to_its_joint_hierarchy_is_followed(root: Path):
    v1_group(root / "cpu,cpuacct" / "pod1")
    (root / "cpu").symlink_to("cpu,cpuacct")
    assert tree(root).find("/pod1").mount == root / "cpu,cpuacct"


def test_a_hybrid_host_uses_v1_where_v2_has_no_cpu_controller(root: Path):
    (v2_mount(root / "unified") / "pod1").mkdir()
    v1_group(root / "cpu" / "pod1")
    assert tree(root).find("/pod1").version == 1


def test_a_hybrid_host_uses_v2_where_it_has_the_cpu_controller(root: Path):
    v2_group(v2_mount(root / "unified") / "pod1")
    v1_group(root / "cpu")
    assert tree(root).find("/pod1") == CpuGroup(root / "unified" / "pod1", root / "unified", 2)


def test_groups_called_cpu_and_unified_are_no_mounts_on_a_v2_host(root: Path):
    v2_group(v2_mount(root) / "cpu" / "pod1")
    v2_group(v2_mount(root / "unified") / "pod1")
    with pytest.raises(TemporaryError, match="not there"):
        tree(root).find("/pod1")


@pytest.mark.parametrize(
    ("lines", "version", "path"),
    [
        (HYBRID_LINES, 1, "/system.slice/gnb"),
        ("0::/pod2\n", 2, "/pod2"),
        ("1:cpu:/system.slice/gnb\n", 1, "/system.slice/gnb"),
    ],
)
def test_a_pid_is_limited_where_its_hierarchy_has_the_controller(root: Path, lines: str, version: int, path: str):
    (v2_mount(root / "unified") / "system.slice").mkdir()
    v2_group(root / "unified" / "pod2")
    v1_group(root / "cpu" / "system.slice" / "gnb")
    process(root, 1234, lines)
    group = tree(root).find("pid:1234")
    assert (group.version, group.path) == (version, path)


def test_a_pid_is_resolved_anew_each_time(root: Path):
    v2_group(v2_mount(root) / "a")
    v2_group(root / "b")
    process(root, 7, "0::/a\n")
    before = tree(root).find("pid:7").path
    (root.parent / "proc" / "7" / "cgroup").write_text("0::/b\n")
    assert (before, tree(root).find("pid:7").path) == ("/a", "/b")


def test_a_vanished_pid_is_a_temporary_error(root: Path):
    v2_mount(root)
    with pytest.raises(TemporaryError, match="pid:4321"):
        tree(root).find("pid:4321")


@pytest.mark.parametrize("target", ["pid:", "pid:x", "pid:-1", "pid:0", "pid:1/../2", "pid:²"])
def test_what_is_no_process_id_is_refused(root: Path, target: str):
    with pytest.raises(PermanentError, match="whole number"):
        tree(root).find(target)


@pytest.mark.parametrize("lines", ["0::/\n", "1:cpu:/\n0::/system.slice\n"])
def test_a_process_in_the_root_group_is_refused_with_the_remedy(root: Path, lines: str):
    (v2_mount(root / "unified") / "system.slice").mkdir()
    (root / "cpu").mkdir()
    process(root, 5, lines)
    with pytest.raises(PermanentError, match="a cgroup of its own"):
        tree(root).find("pid:5")


def test_a_process_outside_the_cgroup_namespace_is_refused_with_the_remedy(root: Path):
    v2_mount(root)
    process(root, 5, "0::/../../init\n")
    with pytest.raises(PermanentError, match="host's cgroup namespace"):
        tree(root).find("pid:5")


def test_a_kernel_without_cpu_controller_is_named(root: Path):
    process(root, 5, "3:memory:/a\n")
    with pytest.raises(PermanentError, match="cannot limit CPU"):
        tree(root).find("pid:5")


@pytest.mark.parametrize("target", ["", "pod1", "./pod1", "kubepods/pod1"])
def test_a_target_that_is_not_absolute_is_refused(root: Path, target: str):
    v2_group(v2_mount(root) / "pod1")
    with pytest.raises(PermanentError, match="absolute path"):
        tree(root).find(target)


@pytest.mark.parametrize("target", ["/", "//", "/./"])
def test_the_root_group_is_refused(root: Path, target: str):
    v2_mount(root)
    (root / "cpu.max").write_text("max 100000\n")
    with pytest.raises(PermanentError, match="is the root"):
        tree(root).find(target)


@pytest.mark.parametrize("target", ["/../outside", "/pod1/../../outside", "/pod1/..", "/a\0b"])
def test_a_target_cannot_leave_the_hierarchy(root: Path, target: str):
    v2_group(v2_mount(root) / "pod1")
    v2_group(root.parent / "outside")
    with pytest.raises(PermanentError, match=r"may not contain|NUL"):
        tree(root).find(target)


def test_a_link_out_of_the_hierarchy_is_refused(root: Path):
    v2_mount(root)
    v2_group(root.parent / "outside" / "pod1")
    (root / "link").symlink_to(root.parent / "outside")
    with pytest.raises(PermanentError, match="symbolic link"):
        tree(root).find("/link/pod1")


def test_a_hierarchy_that_is_a_link_out_of_the_root_is_no_hierarchy(root: Path):
    v1_group(root.parent / "outside" / "pod1")
    (root / "cpu").symlink_to(root.parent / "outside")
    with pytest.raises(PermanentError, match="no hierarchy"):
        tree(root).find("/pod1")


def test_a_target_that_repeats_the_mount_point_is_refused(root: Path):
    v2_group(v2_mount(root) / "pod1")
    with pytest.raises(PermanentError, match="repeats the mount point"):
        tree(root).find(f"{root}/pod1")


def test_a_missing_group_is_a_temporary_error_that_names_where_it_was_sought(root: Path):
    v2_mount(root / "unified")
    (root / "cpu").mkdir()
    with pytest.raises(TemporaryError) as error:
        tree(root).find("/pod1")
    assert f"{root}/unified/pod1" in str(error.value)
    assert f"{root}/cpu/pod1" in str(error.value)


def test_a_v2_twin_of_a_missing_v1_group_is_still_a_temporary_error(root: Path):
    (v2_mount(root / "unified") / "pod1").mkdir()
    (root / "cpu").mkdir()
    with pytest.raises(TemporaryError, match="not there"):
        tree(root).find("/pod1")


def test_a_v2_group_without_controller_is_refused_with_the_command_to_enable_it(root: Path):
    (v2_mount(root) / "kubepods" / "pod1").mkdir(parents=True)
    with pytest.raises(PermanentError) as error:
        tree(root).find("/kubepods/pod1")
    assert f"echo +cpu > {root}/kubepods/cgroup.subtree_control" in str(error.value)


def test_a_v1_group_without_quota_asks_for_another_kernel(root: Path):
    (root / "cpu" / "pod1").mkdir(parents=True)
    with pytest.raises(PermanentError, match="CONFIG_CFS_BANDWIDTH"):
        tree(root).find("/pod1")


def test_a_root_without_any_hierarchy_is_refused_with_the_remedy(root: Path):
    with pytest.raises(PermanentError, match="mount the host's"):
        tree(root).find("/pod1")


def test_a_name_that_no_file_system_can_hold_is_refused(root: Path):
    v2_mount(root)
    with pytest.raises(PermanentError, match="File name too long"):
        tree(root).find(f"/{'a' * 300}")


def test_groups_above_are_listed_nearest_first_without_the_unlimited_top(root: Path):
    group = v2_group(v2_mount(root) / "a" / "b" / "c")
    above = CpuGroup(group, root, 2).ancestors()
    assert [one.path for one in above] == ["/a/b", "/a"]
