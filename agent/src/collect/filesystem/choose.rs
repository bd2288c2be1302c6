//! Which mounts are worth measuring and safe to ask. Pure; called by the sensor `filesystem`.

use std::collections::BTreeMap;

use crate::parse::procfs::mounts::Mount;

/// What to do with the mounts of a host.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Local file systems that hold data, each once, by mount point.
    pub(super) measured: Vec<Mount>,
    /// Such as would be measured, were it not for a mount on the way to them that can hang.
    pub(super) unreachable: Vec<Mount>,
}

/// Hold nothing, or show what others hold.
const PSEUDO: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// Images that are full by nature.
const IMAGES: &[&str] = &["cramfs", "erofs", "iso9660", "romfs", "squashfs", "udf"];

/// Answered by another machine or process, which may not answer. FUSE's own types begin with `fuse`.
const REMOTE: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
];

/// Where a tmpfs is worth a look: services fail when these are full. Elsewhere it is one of many that container runtimes make.
const TMPFS_POINTS: [&str; 5] = ["/", "/tmp", "/var/tmp", "/run", "/dev/shm"];

/// Chooses among `mounts`, given in the order of mounting.
pub(super) fn choose(mounts: Vec<Mount>) -> Choice {
    // The later of two mounts at one place hides the earlier.
    let mut visible: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in mounts {
        visible.insert(mount.point.clone(), mount);
    }
    let remote: Vec<String> = visible.values().filter(|mount| is_remote(&mount.fstype)).map(|mount| mount.point.clone()).collect();
    let mut by_device: BTreeMap<((u32, u32), String), Mount> = BTreeMap::new();
    let mut unreachable = Vec::new();
    for mount in visible.into_values().filter(worth_a_look) {
        if remote.iter().any(|hung| is_below(&mount.point, hung)) {
            unreachable.push(mount);
            continue;
        }
        let source = if mount.device == (0, 0) { mount.source.clone() } else { String::new() };
        match by_device.entry((mount.device, source)) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(mount);
            }
            std::collections::btree_map::Entry::Occupied(mut slot) if mount.point.len() < slot.get().point.len() => {
                slot.insert(mount);
            }
            std::collections::btree_map::Entry::Occupied(_) => (),
        }
    }
    // A bind mount of what was measured elsewhere is no loss.
    unreachable.retain(|mount| mount.device == (0, 0) || !by_device.keys().any(|(device, _)| *device == mount.device));
    let mut measured: Vec<Mount> = by_device.into_values().collect();
    measured.sort_unstable_by(|a, b| a.point.cmp(&b.point));
    Choice { measured, unreachable }
}

fn worth_a_look(mount: &Mount) -> bool {
    let fstype = mount.fstype.as_str();
    match fstype {
        "tmpfs" => TMPFS_POINTS.contains(&mount.point.as_str()),
        // The root of a container or a live system; further overlays are containers' and share the disk below.
        "overlay" => mount.point == "/",
        _ => !is_remote(fstype) && !PSEUDO.contains(&fstype) && !IMAGES.contains(&fstype),
    }
}

fn is_remote(fstype: &str) -> bool {
    REMOTE.contains(&fstype) || fstype == "fuse" || fstype == "fuseblk" || fstype.starts_with("fuse.")
}

fn is_below(point: &str, above: &str) -> bool {
    point.strip_prefix(above).is_some_and(|rest| rest.starts_with('/') || above.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::procfs::mounts::mountinfo;

    fn points(text: &str) -> (Vec<String>, Vec<String>) {
        let choice = choose(mountinfo(text).collect());
        let names = |mounts: Vec<Mount>| mounts.into_iter().map(|mount| mount.point).collect();
        (names(choice.measured), names(choice.unreachable))
    }

    #[test]
    fn each_local_file_system_is_taken_once_at_its_shortest_place() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    2 1 8:1 /opt /var/lib/docker/opt rw - ext4 /dev/sda1 rw\n\
                    3 1 8:17 /a /srv/app/data rw - xfs /dev/sdb1 rw\n\
                    4 1 8:17 / /srv rw - xfs /dev/sdb1 rw\n\
                    5 1 0:30 / /tmp rw - tmpfs tmpfs rw\n\
                    6 1 0:31 / /run/user/1000 rw - tmpfs tmpfs rw\n\
                    7 1 0:32 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\
                    8 1 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro\n\
                    9 1 0:4 / /proc rw - proc proc rw\n";
        assert_eq!(points(text).0, ["/", "/srv", "/tmp"]);
    }

    #[test]
    fn what_can_hang_is_neither_asked_nor_walked_through() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    2 1 0:40 / /mnt/share rw - nfs4 server:/x rw\n\
                    3 2 8:33 / /mnt/share/disk rw - ext4 /dev/sdc1 rw\n\
                    4 2 8:1 /x /mnt/share/root rw - ext4 /dev/sda1 rw\n\
                    5 1 8:49 / /mnt/shared rw - ext4 /dev/sdd1 rw\n\
                    6 1 0:41 / /home/x/cloud rw - fuse.sshfs x@y: rw\n\
                    7 1 8:65 / /media/usb rw - fuseblk /dev/sde1 rw\n";
        assert_eq!(points(text), (vec!["/".to_owned(), "/mnt/shared".to_owned()], vec!["/mnt/share/disk".to_owned()]));
    }

    #[test]
    fn the_later_mount_at_one_place_counts() {
        let text = "1 0 8:1 / /data rw - ext4 /dev/sda1 rw\n2 1 0:9 / /data rw - nfs server:/ rw\n3 0 0:50 / / rw - overlay overlay rw\n";
        assert_eq!(points(text).0, ["/"]);
    }
}
