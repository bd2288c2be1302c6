//! Who offends: a key that no policy names is nobody's offence; of one that is named, whoever no policy allows offends. What is not known
//! of somebody fits no list. Pure but for names of users, which are asked of the host.

use std::path::Path;

use keyvigil_common::event::Actor;

use super::files::Followed;
use super::policy::{AccessConfig, AccessPolicy};
use crate::collect::keystore::covers;
use crate::parse::cgroup::CONTAINER;

/// Digits of a container's id that are told.
const ID_DIGITS: usize = 12;

/// Whether what a list has fits what is so.
type Fits<'a> = &'a dyn Fn(&str, &str) -> bool;

/// Who opens what.
pub(super) struct Asking<'a> {
    pub(super) file: &'a Followed,
    pub(super) actor: &'a Actor,
    /// Name, or number where it has none.
    pub(super) user: &'a str,
    /// SHA-256 of the program; empty where it is not known.
    pub(super) exe_sha256: &'a str,
    /// Number of a user by another name of theirs.
    pub(super) uid_of: &'a dyn Fn(&str) -> Option<u32>,
}

impl AccessConfig {
    /// Whether they may.
    ///
    /// # Errors
    /// Why not, by the policy that comes nearest.
    pub(super) fn judge(&self, asking: &Asking<'_>) -> Result<(), String> {
        let about = |policy: &&AccessPolicy| match policy.key.as_str() {
            "" => policy.path.iter().any(|path| asking.file.names().any(|name| covers(path, Path::new(name)))),
            id => asking.file.keys.iter().any(|key| key.id == id),
        };
        let (mut nearest, mut others) = (None::<(usize, String)>, 0);
        for policy in self.policy.iter().filter(about) {
            let Some(fault) = policy.fault(asking) else { return Ok(()) };
            others += 1;
            if nearest.as_ref().is_none_or(|(fitted, _)| fault.0 > *fitted) {
                nearest = Some(fault);
            }
        }
        match nearest {
            None => Ok(()),
            Some((_, why)) if others == 1 => Err(why),
            Some((_, why)) => Err(format!("{why}, and none of its {others} policies allows it")),
        }
    }

    /// Whether a policy asks what programs consist of.
    pub(super) fn asks_for_hashes(&self) -> bool {
        self.policy.iter().any(|policy| !policy.exe_sha256.is_empty())
    }
}

impl AccessPolicy {
    /// How many of its lists fit before the first that does not, and why that does not.
    fn fault(&self, asking: &Asking<'_>) -> Option<(usize, String)> {
        let (exe, unit) = (asking.actor.exe.as_deref(), asking.actor.unit.as_deref());
        let container = unit.and_then(|unit| unit.strip_prefix(CONTAINER));
        let unit = unit.filter(|_| container.is_none());
        let uid = asking.actor.uid;
        let is_user = |name: &str| name == asking.user || uid.is_some_and(|uid| name == uid.to_string() || (asking.uid_of)(name) == Some(uid));
        let hash = Some(asking.exe_sha256).filter(|hash| !hash.is_empty());
        let lists: [(&str, &[String], Option<&str>, Fits<'_>); 5] = [
            ("program", &self.exe, exe, &|allowed, exe| covers(allowed, Path::new(exe))),
            ("SHA-256 of the program", &self.exe_sha256, hash, &|allowed, hash| allowed.eq_ignore_ascii_case(hash)),
            ("user", &self.user, Some(asking.user).filter(|user| !user.is_empty()), &|allowed, _| is_user(allowed)),
            ("unit", &self.unit, unit, &fits),
            ("container", &self.container, container, &is_container),
        ];
        lists.into_iter().enumerate().find_map(|(fitted, (what, list, is, fits))| {
            let why = match is {
                _ if list.is_empty() => return None,
                Some(is) if list.iter().any(|allowed| fits(allowed, is)) => return None,
                Some(is) => format!("the {what} {is} is not one of {}", list.join(", ")),
                None => format!("the {what} is not known, and so not one of {}", list.join(", ")),
            };
            Some((fitted, why))
        })
    }
}

/// A name, or a pattern of names.
fn fits(allowed: &str, name: &str) -> bool {
    allowed == name || !allowed.contains('/') && covers(&format!("/{allowed}"), &Path::new("/").join(name))
}

/// A name; or an id, of which people use as many digits as they like.
fn is_container(allowed: &str, told: &str) -> bool {
    let is_id = |text: &str| text.len() >= ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    fits(allowed, told) || is_id(allowed) && is_id(told) && (allowed.starts_with(told) || told.starts_with(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(exe: &str, uid: u32, unit: &str) -> Actor {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Actor { exe: some(exe), uid: Some(uid), unit: some(unit), ..Actor::default() }
    }

    fn judge(config: &AccessConfig, path: &str, actor: &Actor, user: &str, exe_sha256: &str) -> Result<(), String> {
        assert_eq!(config.faults(), Vec::<String>::new());
        let file = Followed { path: path.to_owned(), keys: Vec::new(), written: path.into(), names: Vec::new() };
        config.judge(&Asking { file: &file, actor, user, exe_sha256, uid_of: &|name| (name == "toor").then_some(0) })
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn whom_no_policy_of_a_key_allows_offends_and_of_other_keys_nobody_does() {
        let policy =
            |exe: &[&str], user: &[&str]| AccessPolicy { path: list(&["/etc/nginx/*.key"]), exe: list(exe), user: list(user), ..AccessPolicy::default() };
        let config = AccessConfig { policy: vec![policy(&["/usr/sbin/nginx"], &["toor", "33"]), policy(&["/opt/backup/*"], &[])], ..AccessConfig::default() };
        let judge = |path: &str, exe: &str, uid: u32, user: &str| judge(&config, path, &actor(exe, uid, ""), user, "");
        assert_eq!(judge("/etc/nginx/a.key", "/usr/sbin/nginx", 0, "root"), Ok(()), "by the other name of the same user");
        assert_eq!(judge("/etc/nginx/a.key", "/usr/sbin/nginx", 33, "www-data"), Ok(()));
        assert_eq!(judge("/etc/nginx/a.key", "/opt/backup/run", 7, "7"), Ok(()), "by the second policy");
        assert_eq!(judge("/etc/other.key", "/usr/bin/cat", 7, "7"), Ok(()), "no policy is about it");
        assert!(judge("/etc/nginx/a.key", "/usr/bin/cat", 0, "root").unwrap_err().contains("/usr/bin/cat is not one of /usr/sbin/nginx"));
        assert!(judge("/etc/nginx/a.key", "/usr/sbin/nginx", 7, "bob").unwrap_err().starts_with("the user bob"), "the policy that comes nearest says why");
        assert!(judge("/etc/nginx/a.key", "", 0, "root").unwrap_err().starts_with("the program is not known"));
    }

    #[test]
    fn what_a_program_consists_of_and_where_it_runs_can_be_asked_for() {
        let hash = "AB".repeat(32);
        let config = |policy: AccessPolicy| AccessConfig { policy: vec![AccessPolicy { path: list(&["/k"]), ..policy }], ..AccessConfig::default() };
        let by_hash = config(AccessPolicy { exe_sha256: vec![hash.clone()], ..AccessPolicy::default() });
        assert!(by_hash.asks_for_hashes());
        let nginx = actor("/usr/sbin/nginx", 0, "nginx.service");
        assert_eq!(judge(&by_hash, "/k", &nginx, "root", &hash.to_lowercase()), Ok(()));
        assert!(judge(&by_hash, "/k", &nginx, "root", &"00".repeat(32)).unwrap_err().contains("is not one of AB"));
        assert!(judge(&by_hash, "/k", &nginx, "root", "").unwrap_err().contains("is not known"));

        let by_unit = config(AccessPolicy { unit: list(&["session-*.scope", "nginx.service"]), ..AccessPolicy::default() });
        let by_container = config(AccessPolicy { container: list(&["web-*", &"0123456789abcdef".repeat(4)]), ..AccessPolicy::default() });
        let allowed = |config: &AccessConfig, unit: &str| judge(config, "/k", &actor("/bin/a", 0, unit), "root", "").is_ok();
        for (unit, of_unit, of_container) in [
            ("nginx.service", true, false),
            ("session-7.scope", true, false),
            ("container web-1", false, true),
            ("container 0123456789ab", false, true),
            ("container 1123456789ab", false, false),
            ("container nginx.service", false, false),
            ("", false, false),
        ] {
            assert_eq!((allowed(&by_unit, unit), allowed(&by_container, unit)), (of_unit, of_container), "{unit}");
        }
    }
}
