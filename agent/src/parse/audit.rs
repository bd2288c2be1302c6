//! Records of Linux audit, as its multicast group tells them: which call opened what, by whom. Several records with one serial number are
//! one event, the call first and its end last. Forms: audit-userspace `lib/msg_typetab.h`, and `kernel/auditsc.c` of Linux.

use keyvigil_common::unhex;

/// Numbers of a system call by architecture, and which argument has its flags.
type Numbers = &'static [(u32, Option<usize>)];

/// Bytes of a message's head (`struct nlmsghdr`).
const HEAD: usize = 16;
const CONFIG_CHANGE: u16 = 1_305;
const SYSCALL: u16 = 1_300;
const PATH: u16 = 1_302;
const CWD: u16 = 1_307;
const END: u16 = 1_320;
/// By architecture: calls that open, and which argument has the flags.
const OPENS: [(&str, Numbers); 4] = [
    ("c000003e", &[(2, Some(1)), (257, Some(2)), (437, None), (304, Some(2)), (85, None)]),
    ("40000003", &[(5, Some(1)), (295, Some(2)), (437, None), (342, Some(2)), (8, None)]),
    ("c00000b7", &[(56, Some(2)), (437, None), (265, Some(2))]),
    ("40000028", &[(5, Some(1)), (322, Some(2)), (437, None), (371, Some(2)), (8, None)]),
];

/// A call that opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Result; below zero the error.
    pub exit: i32,
    /// Process, and its parent.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// User.
    pub uid: u32,
    /// User that logged in.
    pub login_uid: Option<u32>,
    /// Its own name.
    pub comm: String,
    /// Program.
    pub exe: String,
    /// Flags, where the call has them as an argument.
    pub flags: Option<u32>,
}

/// A file that a call came by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// As it was asked for.
    pub name: String,
    /// Device as the kernel numbers it, and inode; none where nothing lies there.
    pub file: Option<(u32, u64)>,
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A call that opens.
    Call(Call),
    /// What the paths are relative to.
    Directory(String),
    /// A file.
    Item(Item),
    /// That was all of it.
    End,
    /// Rules were changed, or audit switched.
    Rules,
}

/// A message of the group: serial number and what it tells. `None` for what is of no use here.
#[must_use]
pub fn message(bytes: &[u8]) -> Option<(u64, Part)> {
    let head = bytes.first_chunk::<HEAD>()?;
    let kind = u16::from_ne_bytes([head[4], head[5]]);
    if kind == CONFIG_CHANGE {
        return Some((0, Part::Rules));
    }
    let text = std::str::from_utf8(&bytes[HEAD..]).ok()?.trim_end_matches('\0');
    let (stamp, body) = text.strip_prefix("audit(")?.split_once("):")?;
    let serial = stamp.rsplit_once(':')?.1.parse().ok()?;
    let part = match kind {
        SYSCALL => Part::Call(call(body)?),
        PATH => Part::Item(item(body)?),
        CWD => Part::Directory(value(body, "cwd").map(named)?),
        END => Part::End,
        _ => return None,
    };
    Some((serial, part))
}

fn call(body: &str) -> Option<Call> {
    let number = |name: &str| value(body, name)?.parse::<u32>().ok();
    let calls = OPENS.iter().find(|(arch, _)| value(body, "arch") == Some(arch))?.1;
    let (_, flags) = calls.iter().find(|(call, _)| number("syscall") == Some(*call))?;
    let argument = |at: usize| u64::from_str_radix(value(body, ["a0", "a1", "a2", "a3"][at])?, 16).ok().map(|word| word as u32);
    Some(Call {
        exit: value(body, "exit")?.parse().ok()?,
        pid: number("pid")?,
        parent: number("ppid")?,
        uid: number("uid")?,
        login_uid: number("auid").filter(|uid| *uid != u32::MAX),
        comm: value(body, "comm").map(named).unwrap_or_default(),
        exe: value(body, "exe").map(named).unwrap_or_default(),
        flags: flags.and_then(argument),
    })
}

fn item(body: &str) -> Option<Item> {
    // The directory above, of a file that is made.
    if value(body, "nametype") == Some("PARENT") {
        return None;
    }
    let device = |text: &str| {
        let (major, minor) = text.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        Some((number(major)? & 0xfff) << 20 | number(minor)? & 0xf_ffff)
    };
    let file = value(body, "dev").and_then(device).zip(value(body, "inode").and_then(|inode| inode.parse().ok()));
    Some(Item { name: value(body, "name").map(named)?, file })
}

/// The value of a field: what is quoted holds no quote, and what is not quoted no blank.
fn value<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    // What follows was made readable for people by the daemon.
    let mut rest = body.split('\x1d').next()?;
    loop {
        rest = rest.trim_start();
        let (field, after) = rest.split_once('=')?;
        let end = match after.strip_prefix('"') {
            Some(quoted) => quoted.find('"')? + 2,
            None => after.find(' ').unwrap_or(after.len()),
        };
        if field.rsplit(' ').next() == Some(name) {
            return Some(&after[..end]);
        }
        rest = &after[end..];
    }
}

/// A text: quoted, or in digits where it holds what cannot be quoted.
fn named(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) => plain.to_owned(),
        None => unhex(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: u16, text: &str) -> Option<(u64, Part)> {
        let head = [&[0; 4][..], &kind.to_ne_bytes(), &[0; 10]].concat();
        message(&[&head[..], text.as_bytes()].concat())
    }

    #[test]
    fn calls_that_open_are_read_and_others_are_not() {
        let text = r#"audit(1795369966.687:6): arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=7ffd a2=80000 a3=0 items=1 ppid=12 pid=3406 auid=4294967295 uid=65534 gid=65534 tty=(none) ses=4294967295 comm="cat" exe=2F746D702F6120622F636174 key="uid=0 pid=1""#;
        let call =
            Call { exit: -13, pid: 3_406, parent: 12, uid: 65_534, login_uid: None, comm: "cat".into(), exe: "/tmp/a b/cat".into(), flags: Some(0x8_0000) };
        assert_eq!(told(1_300, text), Some((6, Part::Call(call))));
        assert_eq!(told(1_300, &text.replace("syscall=257", "syscall=59")), None);
        assert_eq!(told(1_300, &text.replace("c000003e", "c00000b7")), None, "another architecture has other numbers");
    }

    #[test]
    fn files_are_known_by_device_and_inode_and_what_lies_above_them_is_none() {
        let text = r#"audit(1.2:7): item=0 name="keys/k.pem" inode=10141713 dev=fe:0a mode=0100600 ouid=0 nametype=NORMAL cap_fp=0"#;
        let item = Item { name: "keys/k.pem".into(), file: Some((0xfe << 20 | 10, 10_141_713)) };
        assert_eq!(told(1_302, text), Some((7, Part::Item(item))));
        assert_eq!(told(1_302, &text.replace("NORMAL", "PARENT")), None);
        assert_eq!(told(1_307, r#"audit(1.2:7): cwd="/etc""#), Some((7, Part::Directory("/etc".into()))));
        assert_eq!((told(1_320, "audit(1.2:7): "), told(1_305, "")), (Some((7, Part::End)), Some((0, Part::Rules))));
        assert_eq!((told(1_302, "audit(1.2:7): name=\"a"), told(1_302, "audit(7): name=61")), (None, None));
    }
}
