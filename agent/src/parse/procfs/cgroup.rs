//! `/proc/PID/cgroup`: which service or container a process belongs to. Forms: cgroups(7), and the names that systemd and the
//! container engines give.

/// Hex digits of a container's id that are shown, as its own tools do.
const SHOWN: usize = 12;

/// The systemd unit of a process, `nginx.service`, or `container 0123456789ab`.
#[must_use]
pub fn unit(text: &str) -> Option<String> {
    let mut named = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        // Version 2 has no controllers; of version 1 the hierarchy of systemd knows most, and a container's id stands in each.
        if let Some(container) = path.rsplit('/').find_map(container) {
            return Some(container);
        }
        if controllers.is_empty() || controllers == "name=systemd" {
            named = path.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope")).or(named);
        }
    }
    named.map(str::to_owned)
}

/// `docker-<id>.scope`, `libpod-<id>.scope`, `cri-containerd-<id>.scope`, the bare id, or a machine by its name.
fn container(part: &str) -> Option<String> {
    if let Some(name) = part.strip_prefix("lxc.payload.").or_else(|| part.strip_prefix("machine-")?.strip_suffix(".scope")) {
        return Some(format!("container {name}"));
    }
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    let id = bare.rsplit('-').next().filter(|id| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some(format!("container {}", &id[..SHOWN]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_containers_are_named_as_their_tools_name_them() {
        let id = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            ("0::/system.slice/nginx.service\n".to_owned(), Some("nginx.service")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n".to_owned(), Some("web.service")),
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
