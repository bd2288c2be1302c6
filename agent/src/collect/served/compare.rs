//! Whether what is served is what its file holds: finds the file a served certificate comes from, and whether another lies there
//! now. Says so only on evidence, which it names. Called by the sensor.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use keyvigil_common::key::KeyFacts;

use crate::collect::known::{Known, KnownCertificate};

/// Files that one served certificate is remembered to have lain in.
const PATHS_MAX: usize = 8;

/// What is known to lie here, by identity and by file.
pub(super) struct View<'a> {
    /// Those that the host holds: a copy among what it trusts is nobody's file to serve from.
    held: Vec<&'a KnownCertificate>,
    by_id: HashMap<&'a str, Vec<&'a KnownCertificate>>,
    by_path: HashMap<&'a str, Vec<&'a KnownCertificate>>,
    /// Where a link leads, or the path itself.
    target: &'a dyn Fn(&Path) -> PathBuf,
}

/// Another certificate lies where the served one comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Renewed {
    pub(super) file: String,
    pub(super) key: String,
    pub(super) fingerprint: String,
    pub(super) not_after_ms: Option<i64>,
    /// What says that this is its file.
    pub(super) because: &'static str,
}

/// What a served certificate is, beside the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The file that holds it.
    File(String),
    /// Its file holds another.
    Renewed(Renewed),
    /// No file that is known.
    Nowhere,
}

impl<'a> View<'a> {
    pub(super) fn new(known: &'a Known, target: &'a dyn Fn(&Path) -> PathBuf) -> Self {
        let (mut by_id, mut by_path) = (HashMap::<&str, Vec<_>>::new(), HashMap::<&str, Vec<_>>::new());
        let held: Vec<&KnownCertificate> = known.certificates.iter().filter(|certificate| certificate.held).collect();
        for certificate in held.iter().copied() {
            by_id.entry(&certificate.facts.id).or_default().push(certificate);
            by_path.entry(&certificate.path).or_default().push(certificate);
        }
        Self { held, by_id, by_path, target }
    }

    /// Where `leaf`, served by the program `exe`, comes from; `paths` are the files in which it lay when it was served before, to
    /// which those are added in which it lies now.
    pub(super) fn source(&self, leaf: &KeyFacts, exe: Option<&str>, paths: &mut BTreeSet<String>) -> Source {
        let hits = self.by_id.get(leaf.id.as_str()).map_or(&[][..], Vec::as_slice);
        let renewed = paths.iter().find_map(|path| self.replaced(leaf, path));
        if let Some(new) = renewed {
            return Source::Renewed(renewal(new, "the file held the served certificate before"));
        }
        for hit in hits {
            if paths.len() < PATHS_MAX {
                paths.insert(hit.path.clone());
            }
        }
        let successors = || self.held.iter().copied().filter(|new| is_renewal(&new.facts, leaf));
        let names_it = |certificate: &KnownCertificate| exe.is_some_and(|exe| is_used_by(certificate, exe));
        if !hits.iter().any(|hit| names_it(hit))
            && let Some(new) = newest(successors().filter(|new| names_it(new)))
        {
            return Source::Renewed(renewal(new, "the program's configuration names the file"));
        }
        if hits.is_empty() {
            return self.without_file(leaf, successors);
        }
        // A tool that numbers its files left the old one beside the new.
        let old: Vec<String> = hits.iter().flat_map(|hit| self.unnumbered(&hit.path)).collect();
        let next = successors().filter(|new| !hits.iter().any(|hit| hit.path == new.path));
        if let Some(new) = newest(next.filter(|new| self.unnumbered(&new.path).iter().any(|name| old.contains(name)))) {
            return Source::Renewed(renewal(new, "the file is the next version of the one that holds the served certificate"));
        }
        let best = hits.iter().min_by_key(|hit| (!names_it(hit), hit.path.len(), &hit.path));
        best.map_or(Source::Nowhere, |hit| Source::File(hit.path.clone()))
    }

    /// Of a certificate that lies nowhere any more.
    fn without_file<I: Iterator<Item = &'a KnownCertificate>>(&self, leaf: &KeyFacts, successors: impl Fn() -> I) -> Source {
        let same_key = self.held.iter().copied().filter(|new| new.facts.fingerprint == leaf.fingerprint && new.facts.is_ca != Some(true));
        if let Some(new) = newest(same_key.filter(|new| new.facts.not_before_ms > leaf.not_before_ms)) {
            return Source::Renewed(renewal(new, "it is of the same key, and newer"));
        }
        let lineage: Vec<&KnownCertificate> = successors().filter(|new| new.facts.issuer == leaf.issuer).collect();
        let distinct: BTreeSet<&str> = lineage.iter().map(|new| new.facts.id.as_str()).collect();
        match newest(lineage.into_iter()) {
            // Of several nobody can say which is meant.
            Some(new) if distinct.len() == 1 => Source::Renewed(renewal(new, "it has the same names and issuer, and is newer")),
            _ => Source::Nowhere,
        }
    }

    /// What lies at `path` in the place of `leaf`.
    fn replaced(&self, leaf: &KeyFacts, path: &str) -> Option<&'a KnownCertificate> {
        let there = self.by_path.get(path)?;
        if there.iter().any(|certificate| certificate.facts.id == leaf.id) {
            return None;
        }
        let candidates = || there.iter().copied().filter(|new| new.facts.is_ca != Some(true) || leaf.is_ca == Some(true));
        // With other names only where no other can be meant: a bundle of many is not renewed by what is left in it.
        let only = || candidates().next().filter(|_| candidates().count() == 1);
        newest(candidates().filter(|new| shares_names(&new.facts, leaf))).or_else(only)
    }

    /// A path and where it leads, both without their digits.
    fn unnumbered(&self, path: &str) -> [String; 2] {
        let target = (self.target)(Path::new(path));
        let strip = |path: &str| path.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        [strip(path), strip(&target.to_string_lossy())]
    }
}

fn renewal(new: &KnownCertificate, because: &'static str) -> Renewed {
    let facts = &new.facts;
    Renewed { file: new.path.clone(), key: facts.id.clone(), fingerprint: facts.fingerprint.clone(), not_after_ms: facts.not_after_ms, because }
}

fn newest<'a>(certificates: impl Iterator<Item = &'a KnownCertificate>) -> Option<&'a KnownCertificate> {
    certificates.max_by_key(|certificate| (certificate.facts.not_before_ms, std::cmp::Reverse((certificate.path.len(), &certificate.path))))
}

/// Whether `new` is for the same names as `old`, and was made later.
fn is_renewal(new: &KeyFacts, old: &KeyFacts) -> bool {
    new.id != old.id && new.not_before_ms > old.not_before_ms && shares_names(new, old)
}

/// Whether both are for the same names, in whatever order.
pub(super) fn shares_names(one: &KeyFacts, other: &KeyFacts) -> bool {
    let set = |facts: &'_ KeyFacts| facts.sans.iter().map(|name| name.to_ascii_lowercase()).collect::<BTreeSet<_>>();
    match (one.sans.is_empty(), other.sans.is_empty()) {
        (false, false) => set(one) == set(other),
        (true, true) => one.subject.as_ref().is_some_and(|subject| !subject.is_empty()) && one.subject == other.subject,
        _ => false,
    }
}

/// Whether a configuration of that program names the file: `nginx: /etc/nginx/sites-enabled/shop:12`.
fn is_used_by(certificate: &KnownCertificate, exe: &str) -> bool {
    certificate.used_by.iter().any(|user| user.split_once(':').is_some_and(|(name, _)| is_program(name, exe)))
}

/// Whether `exe` is the server that is known as `name`: `/usr/sbin/apache2`, `/usr/lib/postfix/sbin/master`.
fn is_program(name: &str, exe: &str) -> bool {
    const OTHERWISE: [(&str, &str); 6] =
        [("apache", "httpd"), ("openldap", "slapd"), ("bind", "named"), ("mysql", "mariadbd"), ("redis", "valkey-server"), ("kubernetes", "kube-apiserver")];
    let (directory, program) = exe.rsplit_once('/').unwrap_or(("", exe));
    let alike = !program.is_empty() && (program.starts_with(name) || name.starts_with(program));
    alike || directory.split('/').any(|part| part == name) || OTHERWISE.contains(&(name, program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use keyvigil_common::key::KeyKind;

    fn certificate(id: &str, path: &str, made: i64) -> KnownCertificate {
        let mut facts = KeyFacts::bare(KeyKind::Certificate, id.into(), format!("key of {id}"), "ec");
        (facts.sans, facts.issuer, facts.not_before_ms) = (vec!["DNS:www.example.org".into()], Some("CN=CA".into()), Some(made));
        KnownCertificate { facts: Arc::new(facts), path: path.into(), held: true, used_by: Vec::new() }
    }

    /// What is said of the certificate `old`, made at 1, where these lie here; `before`: where it lay.
    fn said(list: Vec<KnownCertificate>, before: &[&str]) -> (Source, BTreeSet<String>) {
        let known = Known { certificates: list, ..Known::default() };
        let target = |path: &Path| PathBuf::from(path.to_string_lossy().replace("/live/site/chain", "/archive/site/chain2"));
        let mut paths = before.iter().map(|path| (*path).to_owned()).collect();
        let source = View::new(&known, &target).source(&certificate("old", "", 1).facts, Some("/usr/sbin/nginx"), &mut paths);
        (source, paths)
    }

    fn renewed(source: Source) -> (String, String, &'static str) {
        match source {
            Source::Renewed(renewed) => (renewed.file, renewed.key, renewed.because),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_lies_in_its_file_is_current_and_what_was_replaced_there_is_not() {
        let (source, paths) = said(vec![certificate("old", "/etc/a.pem", 1), certificate("other", "/etc/b.pem", 9)], &[]);
        assert_eq!(source, Source::File("/etc/a.pem".into()));
        assert_eq!(paths, BTreeSet::from(["/etc/a.pem".to_owned()]));
        let (source, _) = said(vec![certificate("new", "/etc/a.pem", 2)], &["/etc/a.pem"]);
        assert_eq!(renewed(source), ("/etc/a.pem".into(), "new".into(), "the file held the served certificate before"));
        let mut wider = certificate("new", "/etc/a.pem", 2);
        Arc::make_mut(&mut wider.facts).sans.push("DNS:example.org".into());
        assert_eq!(renewed(said(vec![wider.clone()], &["/etc/a.pem"]).0).1, "new", "renewed with a name more");
        let mut stranger = wider.clone();
        Arc::make_mut(&mut stranger.facts).sans = vec!["DNS:other.example".into()];
        assert_eq!(said(vec![wider, stranger], &["/etc/a.pem"]).0, Source::Nowhere, "taken out of a bundle");
        let mut trusted = certificate("old", "/etc/ssl/certs/ca-certificates.crt", 1);
        trusted.held = false;
        assert_eq!(said(vec![trusted], &[]).0, Source::Nowhere, "that it is trusted is not that it is served from there");
        let backup = vec![certificate("new", "/etc/a.pem", 2), certificate("old", "/root/a.pem.bak", 1)];
        assert_eq!(renewed(said(backup, &["/etc/a.pem"]).0).1, "new", "a copy elsewhere does not make it current");
    }

    #[test]
    fn a_server_is_known_by_other_names_than_its_programs() {
        let servers = [("apache", "/usr/sbin/apache2"), ("apache", "/usr/sbin/httpd"), ("postgresql", "/usr/lib/postgresql/15/bin/postgres")];
        let more = [("postfix", "/usr/lib/postfix/sbin/master"), ("mysql", "/usr/sbin/mysqld"), ("redis", "/usr/bin/redis-server")];
        assert!(servers.iter().chain(&more).all(|(name, exe)| is_program(name, exe)));
        assert!(!is_program("nginx", "/usr/sbin/haproxy") && !is_program("bind", "/usr/bin/python3") && !is_program("nginx", ""));
    }

    #[test]
    fn another_services_certificate_of_the_same_names_is_not_taken_for_its_successor() {
        let two = vec![certificate("old", "/etc/postgresql/server.crt", 1), certificate("new", "/etc/nginx/www.pem", 5)];
        assert_eq!(said(two, &[]).0, Source::File("/etc/postgresql/server.crt".into()));
        assert_eq!(said(vec![certificate("a", "/etc/a.pem", 5), certificate("b", "/etc/b.pem", 6)], &[]).0, Source::Nowhere);
        assert_eq!(said(vec![certificate("older", "/etc/a.pem", 0)], &[]).0, Source::Nowhere);
    }

    #[test]
    fn an_agent_that_comes_after_the_renewal_finds_the_file_by_key_by_configuration_by_version_or_by_names() {
        let mut same_key = certificate("new", "/etc/a.pem", 5);
        Arc::make_mut(&mut same_key.facts).fingerprint = "key of old".into();
        assert_eq!(renewed(said(vec![same_key], &[]).0).2, "it is of the same key, and newer");
        let mut named = certificate("new", "/srv/a.pem", 5);
        named.used_by = vec!["nginx: /etc/nginx/nginx.conf:7".into()];
        let left = certificate("old", "/srv/old/a.pem", 1);
        assert_eq!(renewed(said(vec![left, named], &[]).0).2, "the program's configuration names the file");
        let certbot = vec![certificate("old", "/archive/site/chain1.pem", 1), certificate("new", "/live/site/chain.pem", 5)];
        assert_eq!(renewed(said(certbot, &[]).0).0, "/live/site/chain.pem");
        assert_eq!(renewed(said(vec![certificate("new", "/etc/a.pem", 5)], &[]).0).2, "it has the same names and issuer, and is newer");
    }
}
