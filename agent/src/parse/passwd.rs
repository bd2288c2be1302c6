//! `/etc/passwd`: who has an account, and where their home is (man 5 passwd).

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User<'a> {
    /// Name.
    pub name: &'a str,
    /// Number.
    pub uid: u32,
    /// Number of the first group.
    pub gid: u32,
    /// Home directory.
    pub home: &'a str,
}

/// All users of the file; lines of another form are left out.
pub fn users(text: &str) -> impl Iterator<Item = User<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid, home) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?, fields.nth(1)?);
        (!name.is_empty()).then_some(User { name, uid, gid, home })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_another_form_are_left_out() {
        let text = "root:x:0:0:root:/root:/bin/bash\n# remark\n+nis::::::\nbroken:x:1\n::2:2::/x:\nbob:x:1000:1000:Bob,,,:/home/bob:\n";
        let found: Vec<_> = users(text).map(|user| (user.name, user.uid, user.home)).collect();
        assert_eq!(found, [("root", 0, "/root"), ("bob", 1_000, "/home/bob")]);
    }
}
