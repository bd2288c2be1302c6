//! Private keys in forms that are told but not read: each is one fault that says what it is and how it can be brought into a form that
//! is. Called by `keys`.

use std::path::Path;

use super::keys::{FaultClass, Parsed};
use super::pem::find;

/// One form: whether a file begins so, and what it is.
struct Form {
    looks: fn(&[u8], &Path) -> bool,
    what: &'static str,
}

const FORMS: &[Form] = &[
    Form {
        looks: |head, _| head.starts_with(&[0x1e, 0xf1, 0xb5, 0xb0, 0, 0, 0, 0]),
        what: "a private key in Microsoft's form PVK: bring it into PEM (`openssl rsa -inform PVK`)",
    },
    Form {
        looks: |head, _| matches!(head, [7, 2, 0, 0, 0, 0x24 | 0xa4 | 0x22, 0, 0, b'R' | b'D', b'S', b'A' | b'S', b'2', ..]),
        what: "a private key in Microsoft's form MSBLOB: bring it into PEM (`openssl pkey -inform MSBLOB`)",
    },
    Form {
        looks: |head, _| begins_line(head, b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----"),
        what: "a private key in the form of ssh.com: bring it into OpenSSH's (`ssh-keygen -i`, or `puttygen -O private-openssh`)",
    },
    Form {
        looks: |head, _| is_dropbear(head),
        what: "a private key of Dropbear: bring it into OpenSSH's form (`dropbearconvert dropbear openssh`) to have it listed",
    },
    Form { looks: |head, _| begins_line(head, b"AGE-SECRET-KEY-") || begins_line(head, b"AGE-PLUGIN-"), what: "a private key of age, which is not read here" },
    Form {
        looks: |head, _| head.starts_with(b"untrusted comment:") && find(&head[..head.len().min(256)], b"secret key").is_some(),
        what: "a private key of minisign or signify, which is not read here",
    },
    Form { looks: |head, _| head.starts_with(b"Private-key-format: v1"), what: "a private key of DNSSEC, which is not read here" },
    Form { looks: |head, _| head.starts_with(b"== ed25519v1-secret"), what: "the private key of an onion service, which is not read here" },
    Form {
        looks: |head, path| matches!(head, [5, 2, 0, ..]) && path.to_string_lossy().ends_with("keytab"),
        what: "keys of Kerberos, which are not read here (`klist -k` lists them)",
    },
];

#[must_use]
pub fn looks(head: &[u8], path: &Path) -> bool {
    FORMS.iter().any(|form| (form.looks)(head, path))
}

/// Tells what the file is.
pub fn read(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    if let Some(form) = FORMS.iter().find(|form| (form.looks)(bytes, path)) {
        parsed.fault(0, FaultClass::Unsupported, form.what.into());
    }
}

/// The name of a type with its length before it, as in the blob of a public key, which never lies in a file as it is.
fn is_dropbear(head: &[u8]) -> bool {
    let names: [&[u8]; 4] = [b"\0\0\0\x07ssh-rsa\0\0\0", b"\0\0\0\x07ssh-dss\0\0\0", b"\0\0\0\x0bssh-ed25519\0\0\0\x40", b"\0\0\0\x13ecdsa-sha2-nistp"];
    names.iter().any(|name| head.starts_with(name))
}

fn begins_line(head: &[u8], what: &[u8]) -> bool {
    find(head, what).is_some_and(|at| at == 0 || head[at - 1] == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::keys::{keys_at, looks_like_keys};

    #[test]
    fn a_key_in_a_form_that_is_not_read_is_told_with_what_can_be_done() {
        let pvk = [&[0x1e, 0xf1, 0xb5, 0xb0][..], &[0; 40]].concat();
        let blob = [&[7, 2, 0, 0, 0, 0x24, 0, 0][..], b"RSA2", &[0; 40]].concat();
        let dropbear = [&b"\0\0\0\x0bssh-ed25519\0\0\0\x40"[..], &[7; 64]].concat();
        let files: [(&[u8], &str); 9] = [
            (&pvk, "PVK"),
            (&blob, "MSBLOB"),
            (b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: x\n", "ssh.com"),
            (&dropbear, "Dropbear"),
            (b"# public key: age1\nAGE-SECRET-KEY-1QQ\n", "age"),
            (b"untrusted comment: minisign encrypted secret key\nRWRT\n", "minisign"),
            (b"Private-key-format: v1.3\nAlgorithm: 13\n", "DNSSEC"),
            (b"== ed25519v1-secret: type0 ==\0\0\0", "onion"),
            (&[5, 2, 0, 0, 0, 64], "Kerberos"),
        ];
        let path = Path::new("/etc/krb5.keytab");
        for (file, what) in files {
            assert!(looks_like_keys(file, file.len() as u64, path), "{what}");
            let faults = keys_at(file, path).faults;
            assert_eq!((faults.len(), faults[0].class), (1, FaultClass::Unsupported), "{what}");
            assert!(faults[0].reason.contains(what), "{faults:?}");
        }
        assert!(keys_at(b"untrusted comment: minisign public key 1\nRWQf\n", path).not_a_key);
    }
}
