//! How much memory the process may use: the machine's, or its control group's limit where that is less.

use std::fs;
use std::path::Path;

/// Where control groups (cgroups) tell a process's limit, first those of version 2 and then those of version 1: the
/// mark before the process's group in `/proc/self/cgroup`, the folder of all groups, and the name of the file in each.
const LIMITS: [(&str, &str, &str); 2] =
    [("0::/", "/sys/fs/cgroup", "memory.max"), (":memory:/", "/sys/fs/cgroup/memory", "memory.limit_in_bytes")];

/// The machine's memory in bytes, or the smallest limit of the control groups that the process is in: a container or a
/// systemd unit sets one. `None` where the system does not say, as outside Linux.
#[must_use]
pub fn available() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = LIMITS.iter().filter_map(|(mark, root, file)| smallest_limit(&groups, mark, Path::new(root), file));
    machine().into_iter().chain(limits).min()
}

/// By a system call and not from `/proc/meminfo`, which a sandboxed unit does not see.
#[cfg(target_os = "linux")]
fn machine() -> Option<u64> {
    let info = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "it has 32 bits on some machines")]
    u64::from(info.totalram).checked_mul(u64::from(info.mem_unit))
}

#[cfg(not(target_os = "linux"))]
fn machine() -> Option<u64> {
    None
}

/// The smallest limit of the group behind the mark and of its ancestors, up to the outermost that a container sees. A
/// group without a limit says `max`, or a number that no machine has.
fn smallest_limit(groups: &str, mark: &str, root: &Path, file: &str) -> Option<u64> {
    let (_, group) = groups.lines().find_map(|line| line.split_once(mark))?;
    let limit = |group: &Path| fs::read_to_string(root.join(group).join(file)).ok()?.trim().parse().ok();
    Path::new(group).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_a_group_and_those_around_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |group: &str, limit: &str| {
            fs::create_dir_all(root.path().join(group)).unwrap();
            fs::write(root.path().join(group).join("memory.max"), limit).unwrap();
        };
        let found = |groups: &str| smallest_limit(groups, "0::/", root.path(), "memory.max");
        let groups = "4:memory:/old\n0::/system.slice/authtokens.service\n";
        assert_eq!(found(groups), None, "nothing says");
        put("system.slice/authtokens.service", "max\n");
        assert_eq!(found(groups), None, "no limit");
        put("system.slice", "536870912\n");
        assert_eq!(found(groups), Some(512 << 20));
        put("system.slice/authtokens.service", "268435456\n");
        assert_eq!(found(groups), Some(256 << 20));
        assert_eq!(found("0::/\n"), None);
        put("", "134217728\n");
        assert_eq!(found("0::/\n"), Some(128 << 20), "a container's own");
        assert_eq!(found("4:memory:/old\n"), None);
        let of_version_1 = smallest_limit(groups, ":memory:/", root.path(), "memory.max");
        assert_eq!(of_version_1, Some(128 << 20), "the outermost, where a container does not see its own");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_some_memory() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20), "{:?}", available());
    }
}
