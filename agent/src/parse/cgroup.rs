//! `/proc/PID/cgroup`: which service or container a process belongs to, as systemd and the engines name the control group. Called
//! by the sensors of keys and of what is served. Forms: cgroups(7).

/// Digits of an id that people use.
const SHORT: usize = 12;

/// The container that a process with this `cgroup` file is in: the first digits of its id (Docker, Podman, containerd, CRI-O), or
/// its name (LXC, systemd-nspawn).
#[must_use]
pub fn container(text: &str) -> Option<String> {
    let mut parts = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.split('/')).rev();
    // The innermost one: containers run in containers.
    parts.find_map(of_part)
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `libpod-<id>`, `<id>`, `lxc.payload.<name>`, `machine-<name>.scope`.
fn of_part(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").or_else(|| part.strip_suffix(".service")).unwrap_or(part);
    if let Some(name) = part.strip_prefix("lxc.payload.").or_else(|| part.strip_prefix("machine-")).or_else(|| part.strip_prefix("systemd-nspawn@")) {
        return Some(name.replace("\\x2d", "-")).filter(|name| !name.is_empty());
    }
    let id = part.rsplit('-').next().unwrap_or(part);
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| id[..SHORT].to_owned())
}

/// The systemd unit of a process, `nginx.service`, or `container 0123456789ab`: the outermost, as whoever is given a control group names
/// what lies in it as he likes. What a user's own manager or engine runs is named with that user: `user@1000.service/web.service`.
#[must_use]
pub fn unit(text: &str) -> Option<String> {
    let path = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        // Version 2 has no controllers; of version 1 the hierarchy of systemd knows most.
        (controllers.is_empty() || controllers == "name=systemd").then_some(path)
    };
    let named = text.lines().filter_map(path).filter_map(|path| outermost(&path)).next_back();
    named.or_else(|| container(text).map(|name| format!("{CONTAINER}{name}")))
}

/// What a container is told with.
pub const CONTAINER: &str = "container ";

fn outermost(path: &str) -> Option<String> {
    let mut parts = path.split('/');
    let mut next = || parts.by_ref().find_map(named);
    let first = next()?;
    if !first.starts_with("user@") || first.starts_with(CONTAINER) {
        return Some(first);
    }
    Some(next().map(|within| format!("{first}/{within}")).unwrap_or(first))
}

/// A part of a path that is a container or a unit.
fn named(part: &str) -> Option<String> {
    let is_unit = part.ends_with(".service") || part.ends_with(".scope");
    of_part(part).map(|name| format!("{CONTAINER}{name}")).or_else(|| is_unit.then(|| part.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_name_their_groups_in_their_own_ways() {
        let id = "0123456789abcdef".repeat(4);
        let named = |group: &str| container(&format!("12:cpu:/\n0::{group}\n"));
        for group in
            ["/docker/ID", "/system.slice/docker-ID.scope", "/machine.slice/libpod-ID.scope/container", "/kubepods.slice/pod1.slice/cri-containerd-ID.scope"]
        {
            assert_eq!(named(&group.replace("ID", &id)).as_deref(), Some("0123456789ab"), "{group}");
        }
        assert_eq!(named("/lxc.payload.web-1/system.slice/x.service").as_deref(), Some("web-1"));
        assert_eq!(named(r"/machine.slice/machine-deb\x2d12.scope/payload").as_deref(), Some("deb-12"));
        assert_eq!([named("/system.slice/nginx.service"), named("/"), container("")], [None, None, None]);
    }

    #[test]
    fn services_and_containers_are_named_as_their_tools_name_them() {
        let id = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            ("0::/system.slice/nginx.service\n".to_owned(), Some("nginx.service")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n".to_owned(), Some("user@1000.service/web.service")),
            ("0::/user.slice/user-1000.slice/user@1000.service/init.scope/nginx.service\n".to_owned(), Some("user@1000.service/init.scope")),
            (format!("0::/user.slice/user-1000.slice/user@1000.service/docker-{id}.scope\n"), Some("user@1000.service/container 0123456789ab")),
            ("0::/user.slice/user-1000.slice/session-3.scope/nginx.service\n".to_owned(), Some("session-3.scope")),
            ("0::/system.slice/delegated.service/nginx.service\n".to_owned(), Some("delegated.service")),
            (format!("0::/system.slice/docker-{id}.scope/kubelet/docker-{}.scope\n", "f".repeat(64)), Some("container 0123456789ab")),
            ("0::/user.slice/user-0.slice/session-3.scope\n".to_owned(), Some("session-3.scope")),
            (format!("0::/system.slice/docker-{id}.scope\n"), Some("container 0123456789ab")),
            (format!("12:pids:/docker/{id}\n1:name=systemd:/docker/{id}\n"), Some("container 0123456789ab")),
            (format!("0::/kubepods.slice/kubepods-pod7.slice/cri-containerd-{id}.scope\n"), Some("container 0123456789ab")),
            ("0::/lxc.payload.web/system.slice/nginx.service\n".to_owned(), Some("container web")),
            ("4:memory:/system.slice/a.service\n1:name=systemd:/system.slice/b.service\n".to_owned(), Some("b.service")),
            ("0::/\n".to_owned(), None),
            ("nonsense".to_owned(), None),
        ] {
            assert_eq!(unit(&text).as_deref(), expected, "{text}");
        }
    }
}
