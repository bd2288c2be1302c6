//! Names of users and groups by number, from the host's own files: a name service that asks the network could hang the
//! sensor. Called by the sensors of keys when they make a place.

use std::collections::HashMap;

use crate::rootfs::RootFs;

/// Names, read once a scan and only if one is asked for.
#[derive(Debug)]
pub(in crate::collect) struct Owners<'a> {
    root: &'a RootFs,
    users: Option<HashMap<u32, String>>,
    groups: Option<HashMap<u32, String>>,
}

impl<'a> Owners<'a> {
    pub(in crate::collect) fn new(root: &'a RootFs) -> Self {
        Self { root, users: None, groups: None }
    }

    /// Name of a user, else the number.
    pub(in crate::collect) fn user(&mut self, id: u32) -> String {
        let names = self.users.get_or_insert_with(|| read(self.root, "/etc/passwd"));
        names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Name of a group, else the number.
    pub(in crate::collect) fn group(&mut self, id: u32) -> String {
        let names = self.groups.get_or_insert_with(|| read(self.root, "/etc/group"));
        names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// Both files have the name first and the number third.
fn read(root: &RootFs, path: &str) -> HashMap<u32, String> {
    let text = root.read(path).unwrap_or_default();
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok())) {
            // The first entry of a number is the one that others show.
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}
