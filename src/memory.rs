//! How much memory there is to use: the machine's, or less where the system gives this process less.

use std::fs;
use std::path::Path;

/// The machine's memory in bytes, or the smallest limit of the control groups (version 2) that the process is in, as a
/// container or a systemd unit sets it. `None` where the system does not say, as outside Linux.
#[must_use]
pub fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let limit = groups.and_then(|text| smallest_limit(Path::new("/sys/fs/cgroup"), &text));
    machine.into_iter().chain(limit).min()
}

/// `MemTotal:       24681512 kB`
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Of the group that `0::/system.slice/authtokens.service` names, and of those around it. The outermost that a container
/// sees has its limit too; one without a limit says `max`.
fn smallest_limit(root: &Path, groups: &str) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = |group: &Path| fs::read_to_string(root.join(group).join("memory.max")).ok()?.trim().parse().ok();
    Path::new(group).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_as_linux_writes_it() {
        assert_eq!(total("MemTotal:       24681512 kB\nMemFree: 1 kB\n"), Some(24_681_512 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal: many\n"), None);
    }

    #[test]
    fn the_smallest_limit_of_a_group_and_those_around_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |group: &str, limit: &str| {
            fs::create_dir_all(root.path().join(group)).unwrap();
            fs::write(root.path().join(group).join("memory.max"), limit).unwrap();
        };
        let found = |groups: &str| smallest_limit(root.path(), groups);
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
    }
}
