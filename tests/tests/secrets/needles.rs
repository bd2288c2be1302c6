//! Private keys in every form, made by the usual tools, and what of them must be found nowhere: their numbers in either byte
//! order, lines of their files, passwords.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use keyvigil_agent::parse::der::{INTEGER, OCTET_STRING, Reader};
use keyvigil_agent::parse::pem;

/// Of the stores.
pub(crate) const PASSWORD: &str = "kvsecret-Zq7";
/// Of what nobody opens.
const OTHER: &str = "kvother-Xw9";

/// Bytes by which a needle is looked up.
const HEAD: usize = 8;

/// What must not be found.
pub(crate) struct Needles {
    /// Whether any begins with these two bytes: most of a memory is passed by with that.
    begins: Vec<bool>,
    /// By their first bytes: what they are, and the rest.
    by_head: HashMap<[u8; HEAD], Vec<(String, Vec<u8>)>>,
    /// Files with a private key.
    pub(crate) files: usize,
}

impl Needles {
    fn none() -> Self {
        Self { begins: vec![false; 1 << 16], by_head: HashMap::new(), files: 0 }
    }

    fn add(&mut self, what: &str, bytes: &[u8]) {
        self.begins[usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))] = true;
        let head = bytes[..HEAD].try_into().expect("a head");
        self.by_head.entry(head).or_default().push((what.to_owned(), bytes[HEAD..].to_vec()));
    }

    /// A number as files have it, and as processors do.
    fn number(&mut self, what: &str, bytes: &[u8]) {
        // Its first 16 bytes will do, and its last where it is turned round.
        let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(0)..];
        if bytes.len() >= 16 {
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            self.add(what, &bytes[..16]);
            self.add(&format!("{what}, reversed"), &reversed[..16]);
        }
    }

    fn password(&mut self, text: &str) {
        self.add(text, text.as_bytes());
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        self.add(&format!("{text}, wide"), &wide);
    }

    /// Each line of a file's private blocks.
    fn lines(&mut self, path: &Path) {
        let text = fs::read_to_string(path).expect("a file");
        let blocks = text.split("PRIVATE KEY-----\n").skip(1).step_by(2);
        for line in blocks.flat_map(str::lines).filter(|line| !line.starts_with('-') && !line.contains(':') && line.len() >= 24) {
            // The last characters of a short line may be padding.
            self.add(&format!("{}: {line}", path.display()), &line.as_bytes()[..24]);
        }
    }

    /// Numbers of a private key: `numbers` of an RSA key, the scalar of others.
    fn key(&mut self, dir: &Path, file: &str) {
        let run = |arguments: &str| {
            let out = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().expect("openssl");
            assert!(out.status.success(), "{arguments}: {}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        };
        let der = run(&format!("pkcs8 -topk8 -nocrypt -in {file} -outform der"));
        let mut info = Reader::new(&der).sequence().expect("PKCS#8");
        info.take(INTEGER).expect("a version");
        info.element().expect("an algorithm");
        let private = info.take(OCTET_STRING).expect("a key");
        let mut inner = Reader::new(private);
        if let Some(scalar) = inner.take(OCTET_STRING) {
            return self.number(file, scalar);
        }
        let mut fields = inner.sequence().expect("a key");
        fields.take(INTEGER).expect("a version");
        if let Some(scalar) = fields.take(OCTET_STRING) {
            return self.number(file, scalar);
        }
        // Modulus and exponent are public.
        assert!((0..2).all(|_| fields.take(INTEGER).is_some()));
        while let Some(number) = fields.take(INTEGER) {
            self.number(file, number);
        }
    }

    /// What is found in `bytes`.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for (at, window) in bytes.windows(HEAD).enumerate() {
            if !self.begins[usize::from(window[0]) << 8 | usize::from(window[1])] {
                continue;
            }
            let Some(candidates) = <&[u8; HEAD]>::try_from(window).ok().and_then(|head| self.by_head.get(head)) else { continue };
            let rest = &bytes[at + HEAD..];
            found.extend(candidates.iter().filter(|(_, wanted)| rest.starts_with(wanted)).map(|(what, _)| format!("{what} at {at}")));
        }
        found
    }
}

fn tool(dir: &Path, command: &str) {
    let words = command.split_whitespace().map(|word| if word == "''" { "" } else { word });
    let mut words = words.collect::<Vec<_>>().into_iter();
    let out = Command::new(words.next().expect("a command")).args(words).current_dir(dir).output().expect("the tool");
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Makes the files in `dir`, and says what of them is private.
pub(crate) fn make_keys(dir: &Path) -> Needles {
    fs::create_dir_all(dir).expect("a directory");
    let mut needles = Needles::none();
    let clear = [
        ("rsa.pem", "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem"),
        ("rsa1.pem", "openssl genrsa -traditional -out rsa1.pem 2048"),
        ("pss.pem", "openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out pss.pem"),
        ("p256.pem", "openssl ecparam -name prime256v1 -genkey -out p256.pem"),
        ("p384.pem", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem"),
        ("ed25519.pem", "openssl genpkey -algorithm ED25519 -out ed25519.pem"),
        ("x25519.pem", "openssl genpkey -algorithm X25519 -out x25519.pem"),
        ("ed448.pem", "openssl genpkey -algorithm ED448 -out ed448.pem"),
    ];
    for (file, command) in clear {
        tool(dir, command);
        needles.key(dir, file);
        needles.lines(&dir.join(file));
    }
    // Of these the public half has to be computed.
    for curve in ["prime256v1", "secp384r1", "secp521r1", "secp256k1"] {
        let (whole, bare) = (format!("../{curve}.pem"), format!("bare-{curve}.pem"));
        tool(dir, &format!("openssl ecparam -name {curve} -genkey -noout -out {whole}"));
        tool(dir, &format!("openssl ec -in {whole} -no_public -out {bare}"));
        needles.key(dir, &whole);
        needles.lines(&dir.join(&bare));
    }
    let mut derived = vec![
        "openssl pkey -in rsa.pem -outform der -out rsa.der".to_owned(),
        "openssl pkey -in ed25519.pem -outform der -out ed25519.der".to_owned(),
        format!("openssl pkcs8 -topk8 -in p256.pem -passout pass:{OTHER} -out closed.pem"),
        format!("openssl rsa -in rsa.pem -traditional -aes128 -passout pass:{OTHER} -out legacy.pem"),
        "openssl req -x509 -new -key rsa1.pem -subj /CN=store -days 9 -out c.pem".to_owned(),
    ];
    derived.push(format!("openssl pkcs12 -export -inkey rsa1.pem -in c.pem -name store -passout pass:{PASSWORD} -out store.p12"));
    derived.push(format!("openssl pkcs12 -export -legacy -inkey rsa1.pem -in c.pem -name store -passout pass:{PASSWORD} -out legacy.p12"));
    derived.push("openssl pkcs12 -export -keypbe NONE -certpbe NONE -nomac -inkey rsa1.pem -in c.pem -passout pass: -out clear.p12".to_owned());
    for kind in ["JKS", "JCEKS"] {
        let target = format!("-destkeystore store.{kind} -deststoretype {kind} -deststorepass {PASSWORD} -destkeypass {PASSWORD}");
        derived.push(format!("keytool -importkeystore -noprompt -srckeystore store.p12 -srcstoretype PKCS12 -srcstorepass {PASSWORD} {target}"));
    }
    derived.push(format!("ssh-keygen -q -t ed25519 -N {OTHER} -f id_closed"));
    // In OpenSSH's own form.
    for file in ["rsa1.pem", "p256.pem"] {
        derived.push(format!("cp {file} id_{file}"));
        derived.push(format!("chmod 600 id_{file}"));
        derived.push(format!("ssh-keygen -q -p -P '' -N '' -f id_{file}"));
    }
    derived.push("ssh-keygen -q -t ed25519 -N '' -f id_ed25519".to_owned());
    derived.iter().for_each(|command| tool(dir, command));
    for file in ["closed.pem", "legacy.pem", "id_rsa1.pem", "id_p256.pem", "id_ed25519", "id_closed"] {
        needles.lines(&dir.join(file));
    }
    let text = fs::read_to_string(dir.join("p384.pem")).expect("a key");
    fs::write(dir.join("utf16.pem"), [vec![0xff, 0xfe], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat()).expect("a file");
    // A store that was changed since, so that it is asked whether the password opens a key in it.
    let mut changed = fs::read(dir.join("store.JKS")).expect("a store");
    *changed.last_mut().expect("a byte") ^= 1;
    fs::write(dir.join("changed.JKS"), changed).expect("a file");
    ssh_seed(dir, &mut needles);
    [PASSWORD, OTHER].into_iter().for_each(|password| needles.password(password));
    let is_private = |name: &str| !name.ends_with(".pub") && name != "c.pem";
    needles.files =
        fs::read_dir(dir).expect("the directory").filter(|entry| is_private(&entry.as_ref().expect("an entry").file_name().to_string_lossy())).count();
    needles
}

/// The seed of `id_ed25519`: before the second copy of the public half that follows it.
fn ssh_seed(dir: &Path, needles: &mut Needles) {
    let text = fs::read(dir.join("id_ed25519")).expect("a key");
    let body = pem::blocks(&text).next().expect("a block").body.expect("base64");
    let public = fs::read_to_string(dir.join("id_ed25519.pub")).expect("a key");
    let blob = pem::decode(public.split(' ').nth(1).expect("base64").as_bytes()).expect("base64");
    let half = &blob[blob.len() - 32..];
    let at = body.windows(32).rposition(|window| window == half).expect("the public half");
    needles.number("id_ed25519", &body[at - 32..at]);
}
