//! Key files that the configurations of programs name: reads those, follows what they include, and says which files are named
//! where. Reads again only when one of them, or a directory that was searched for them, changed. Called by the site.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use keyvigil_common::limits::{
    KEYSTORE_CONFIG_BYTES_MAX, KEYSTORE_CONFIGS_MAX, KEYSTORE_FILES_MAX, KEYSTORE_INCLUDES_MAX, KEYSTORE_NAMED_MAX, PLACE_USERS_MAX,
};

use rustix::fs::FileType;

use super::disk::Stamp;
use super::glob::escape;
use super::homes::Homes;
use super::pattern::{Pattern, is_missing};
use super::reader::{Look, RACY_NS, text};
use super::trouble::Trouble;
use super::walk::Directories;
use crate::parse::names::{Env, Name, PROGRAMS, Parse, Said, What};

/// What lies there is made by the kernel.
const NO_FILES: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Includes of one program that are followed.
const INCLUDES_MAX: usize = 10_000;

/// A file, a directory or a pattern that configurations name.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) pattern: Pattern,
    /// The path, where it is one.
    pub(super) path: Option<PathBuf>,
    /// `nginx: /etc/nginx/sites-enabled/shop:12`, the first of them.
    pub(super) users: Vec<String>,
    /// Who cannot do without it.
    pub(super) must: Option<String>,
    /// What it is there for, by the first that names it.
    pub(super) what: What,
    /// A key or certificate has to be in it.
    pub(super) is_key: bool,
    /// All name it as the authorities that are trusted.
    pub(super) is_trust: bool,
}

/// What all configurations of a host say.
#[derive(Debug, Default)]
pub(super) struct Naming {
    pub(super) uses: Vec<Use>,
    /// What could not be read.
    pub(super) troubles: Vec<(PathBuf, Trouble)>,
    /// Directories that were searched for configurations.
    pub(super) listed: Directories,
    /// Files that were read, or would have been.
    pub(super) files: HashSet<PathBuf>,
    /// What it all depends on, as it was; `None` where it must be read anew.
    seen: Option<Vec<(PathBuf, Option<Stamp>)>>,
}

impl Naming {
    /// Reads what changed.
    pub(super) fn refresh(&mut self, look: &Look<'_>, homes: &Homes) {
        let is_same = |(path, stamp): &(PathBuf, Option<Stamp>)| look.disk.stat(path).ok() == *stamp;
        if self.seen.as_ref().is_some_and(|seen| seen.iter().all(is_same)) {
            return;
        }
        let mut reading = Reading {
            look,
            homes,
            names: BTreeMap::new(),
            full: HashSet::new(),
            left: KEYSTORE_CONFIGS_MAX,
            read: HashSet::new(),
            unknown: HashSet::new(),
            included: HashSet::new(),
            new: Self::default(),
        };
        for program in PROGRAMS {
            for main in program.files {
                for path in reading.files(main) {
                    reading.read.clear();
                    reading.included.clear();
                    reading.file(&path, program.parse, program.name, &mut Env::at(&text(&path)), 0);
                }
            }
        }
        if look.budget.is_half_over() {
            // Not all was read: what was known stays.
            self.seen = None;
            self.troubles.retain(|(_, trouble)| *trouble != too_slow());
            self.troubles.push((PathBuf::from("/etc"), too_slow()));
            return;
        }
        let Reading { names, mut new, .. } = reading;
        new.uses = names.into_values().collect();
        let paths: HashSet<PathBuf> = new.files.iter().chain(new.listed.keys()).cloned().chain(["/etc/passwd", "/home"].map(PathBuf::from)).collect();
        let seen: Vec<_> = paths.into_iter().map(|path| (look.disk.stat(&path).ok(), path)).map(|(stamp, path)| (path, stamp)).collect();
        // A second change may leave the same times.
        let is_racy = |stamp: &Stamp| i128::from(look.at.wall_ms) * 1_000_000 - stamp.changed_ns < RACY_NS;
        new.seen = Some(seen).filter(|seen| !seen.iter().filter_map(|(_, stamp)| stamp.as_ref()).any(is_racy));
        *self = new;
    }
}

fn too_slow() -> Trouble {
    let most = keyvigil_common::limits::KEYSTORE_SCAN_SECONDS_MAX / 2;
    Trouble::limit(format!("to read all configurations takes longer than {most} s: what they name is known as of an earlier look, if at all"))
}

/// One reading of all configurations.
struct Reading<'a> {
    look: &'a Look<'a>,
    homes: &'a Homes,
    names: BTreeMap<String, Use>,
    /// Bounds that were reached, told once each.
    full: HashSet<&'static str>,
    /// Files that may be read still.
    left: usize,
    /// Files that were read since the one that no other includes, and what was set then.
    read: HashSet<(PathBuf, u64)>,
    /// What they include, and what was set there.
    included: HashSet<(String, u64)>,
    /// Files of which it was told that they name what cannot be known.
    unknown: HashSet<String>,
    new: Naming,
}

impl Reading<'_> {
    /// Files behind a pattern that exist; those that begin with a dot only where it says so.
    fn files(&mut self, pattern: &str) -> Vec<PathBuf> {
        let pattern = Pattern::new(pattern);
        let mut listed = Directories::new();
        let expanded = pattern.expand(self.look.disk, self.homes, KEYSTORE_FILES_MAX, &mut listed);
        self.new.files.extend(pattern.begins(self.homes));
        self.new.files.extend(expanded.paths.iter().cloned());
        self.new.listed.append(&mut listed);
        self.new.troubles.extend(expanded.failed.into_iter().map(|(path, e)| (path, Trouble::system(&e))));
        let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        expanded.paths.into_iter().filter(|path| !is_hidden(path) || pattern.asks_for_hidden()).collect()
    }

    fn file(&mut self, path: &Path, parse: Parse, program: &str, env: &mut Env, depth: usize) {
        if self.look.budget.is_half_over() || !self.read.insert((path.to_owned(), env.state())) {
            return;
        }
        if depth > KEYSTORE_INCLUDES_MAX {
            return self.full(
                "depth",
                path,
                format!("included by more than {KEYSTORE_INCLUDES_MAX} files, each by the next; what this one names is not known"),
            );
        }
        let Some(left) = self.left.checked_sub(1) else {
            return self.full("files", path, format!("more than {KEYSTORE_CONFIGS_MAX} configuration files; what this one names is not known"));
        };
        let contents = match self.look.disk.text(path, KEYSTORE_CONFIG_BYTES_MAX) {
            Ok((_, contents)) => contents,
            Err(e) if is_missing(&e) => return,
            // Some programs include whole directories.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                if depth > 0 {
                    if self.look.disk.stat(path).is_ok_and(|stamp| stamp.file_type() != FileType::Directory) {
                        return self.new.troubles.push((path.to_owned(), Trouble::not_regular()));
                    }
                    let inside = self.files(&format!("{}/*", escape(&text(path))));
                    inside.iter().for_each(|path| self.file(path, parse, program, env, depth + 1));
                }
                return;
            }
            Err(e) => return self.new.troubles.push((path.to_owned(), Trouble::system(&e))),
        };
        self.left = left;
        let outer = std::mem::replace(&mut env.file, text(path));
        parse(&contents, env, &mut |env, said| match said {
            Said::Name(name) => self.name(name, program),
            Said::Unknown(line, why) => self.unknown(env, line, &why, program),
            Said::Include(pattern, parse) => {
                // The same again, while nothing else is set, says the same.
                if !self.included.insert((pattern.clone(), env.state())) || self.look.budget.is_half_over() {
                    return;
                }
                if self.included.len() > INCLUDES_MAX {
                    return self.full(
                        "includes",
                        path,
                        format!("more than {INCLUDES_MAX} includes in the configurations of a program; what the others name is not known"),
                    );
                }
                for path in self.files(&pattern) {
                    self.file(&path, parse, program, env, depth + 1);
                }
            }
        });
        env.file = outer;
    }

    fn name(&mut self, name: Name, program: &str) {
        let Name { path, is_pattern, what, must, file, line, endings } = name;
        if NO_FILES.iter().any(|no| Path::new(&path).starts_with(no)) {
            return;
        }
        let pattern = if is_pattern { path.clone() } else { format!("{}{endings}", escape(&path)) };
        if self.names.len() >= KEYSTORE_NAMED_MAX && !self.names.contains_key(&pattern) {
            return self.full(
                "names",
                Path::new(&file),
                format!("more than {KEYSTORE_NAMED_MAX} key files are named by configurations; the others of this one are left out"),
            );
        }
        let user = format!("{program}: {file}:{line}");
        let named = self.names.entry(pattern.clone()).or_insert_with(|| Use {
            pattern: Pattern::flat(&pattern),
            path: (!is_pattern).then(|| PathBuf::from(path)),
            users: Vec::new(),
            must: None,
            what,
            is_key: false,
            is_trust: true,
        });
        if named.users.len() < PLACE_USERS_MAX && !named.users.contains(&user) {
            named.users.push(user.clone());
        }
        if must {
            named.must.get_or_insert(user);
        }
        named.is_trust &= what == What::Authorities;
        named.is_key |= must && matches!(what, What::Certificate | What::Key | What::Authorities | What::Revocations);
    }

    /// The first of a file tells enough.
    fn unknown(&mut self, env: &Env, line: u32, why: &str, program: &str) {
        if self.new.troubles.len() < KEYSTORE_CONFIGS_MAX && self.unknown.insert(env.file.clone()) {
            self.new.troubles.push((PathBuf::from(&env.file), Trouble::unresolved(&format!("{program}: {}:{line}", env.file), why)));
        }
    }

    fn full(&mut self, bound: &'static str, path: &Path, why: String) {
        if self.full.insert(bound) {
            self.new.troubles.push((path.to_owned(), Trouble::limit(why)));
        }
    }
}
