//! Programs whose configuration is a word and its value a line, with `=`, `:` or a blank between them: a table each.

use super::words::unquote;
use super::{Env, Said, Say, What};

/// Words that name something, in lower case with `_`.
type Table = &'static [(&'static str, Means)];

#[derive(Clone, Copy)]
enum Means {
    File(What),
    Include,
    /// A directory, of which files with this ending are included.
    IncludeDirectory(&'static str),
}

use Means::{File, Include, IncludeDirectory};
use What::{Authorities, Certificate, Key, Revocations};

/// stunnel.
pub fn stunnel(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let table: Table = &[
        ("cert", File(Certificate)),
        ("key", File(Key)),
        ("cafile", File(Authorities)),
        ("capath", File(Authorities)),
        ("crlfile", File(Revocations)),
        ("crlpath", File(Revocations)),
        ("include", IncludeDirectory("")),
    ];
    read(text, table, parse_as(stunnel), env, say);
}

/// OpenVPN; what stands in the file itself is not named.
pub fn openvpn(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let table: Table = &[
        ("ca", File(Authorities)),
        ("capath", File(Authorities)),
        ("cert", File(Certificate)),
        ("extra_certs", File(Certificate)),
        ("pkcs12", File(Certificate)),
        ("key", File(Key)),
        ("crl_verify", File(Revocations)),
        ("tls_auth", File(What::Other)),
        ("tls_crypt", File(What::Other)),
        ("config", Include),
    ];
    read(text, table, parse_as(openvpn), env, say);
}

/// MySQL and MariaDB.
pub fn mysql(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let table: Table = &[
        ("ssl_ca", File(Authorities)),
        ("ssl_capath", File(Authorities)),
        ("ssl_cert", File(Certificate)),
        ("ssl_key", File(Key)),
        ("ssl_crl", File(Revocations)),
        ("ssl_crlpath", File(Revocations)),
        ("admin_ssl_ca", File(Authorities)),
        ("admin_ssl_cert", File(Certificate)),
        ("admin_ssl_key", File(Key)),
        ("mysqlx_ssl_ca", File(Authorities)),
        ("mysqlx_ssl_cert", File(Certificate)),
        ("mysqlx_ssl_key", File(Key)),
        ("!include", Include),
        ("!includedir", IncludeDirectory(".cnf")),
    ];
    read(text, table, parse_as(mysql), env, say);
}

/// Redis and Valkey.
pub fn redis(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let table: Table = &[
        ("tls_cert_file", File(Certificate)),
        ("tls_key_file", File(Key)),
        ("tls_client_cert_file", File(Certificate)),
        ("tls_client_key_file", File(Key)),
        ("tls_ca_cert_file", File(Authorities)),
        ("tls_ca_cert_dir", File(Authorities)),
        ("include", Include),
    ];
    read(text, table, parse_as(redis), env, say);
}

/// Mosquitto.
pub fn mosquitto(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let table: Table = &[
        ("certfile", File(Certificate)),
        ("keyfile", File(Key)),
        ("cafile", File(Authorities)),
        ("capath", File(Authorities)),
        ("crlfile", File(Revocations)),
        ("bridge_certfile", File(Certificate)),
        ("bridge_keyfile", File(Key)),
        ("bridge_cafile", File(Authorities)),
        ("include_dir", IncludeDirectory(".conf")),
    ];
    read(text, table, parse_as(mosquitto), env, say);
}

/// OpenLDAP: its clients, its server, and the server's own tree.
pub fn openldap(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let table: Table = &[
        ("tls_cacert", File(Authorities)),
        ("tls_cacertdir", File(Authorities)),
        ("tls_cert", File(Certificate)),
        ("tls_key", File(Key)),
        ("tlscacertificatefile", File(Authorities)),
        ("tlscacertificatepath", File(Authorities)),
        ("tlscertificatefile", File(Certificate)),
        ("tlscertificatekeyfile", File(Key)),
        ("olctlscacertificatefile", File(Authorities)),
        ("olctlscacertificatepath", File(Authorities)),
        ("olctlscertificatefile", File(Certificate)),
        ("olctlscertificatekeyfile", File(Key)),
        ("include", Include),
    ];
    read(text, table, parse_as(openldap), env, say);
}

/// coturn.
pub fn coturn(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let table: Table = &[("cert", File(Certificate)), ("pkey", File(Key)), ("ca_file", File(Authorities))];
    read(text, table, parse_as(coturn), env, say);
}

/// vsftpd.
pub fn vsftpd(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let table: Table = &[
        ("rsa_cert_file", File(Certificate)),
        ("dsa_cert_file", File(Certificate)),
        ("rsa_private_key_file", File(Key)),
        ("ca_certs_file", File(Authorities)),
    ];
    read(text, table, parse_as(vsftpd), env, say);
}

/// The type of a parser, which a function's name alone does not have.
fn parse_as(parse: super::Parse) -> super::Parse {
    parse
}

fn read(text: &str, table: Table, parse: super::Parse, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        let Some(at) = text.find(|c: char| c.is_whitespace() || c == '=' || c == ':') else { continue };
        let word = text[..at].to_ascii_lowercase().replace('-', "_");
        let value = text[at..].trim_start_matches(|c: char| c.is_whitespace() || c == '=' || c == ':');
        // Behind the path some programs take more words, or a remark.
        let quoted = value.starts_with(['"', '\'']).then(|| value[1..].split(['"', '\'']).next()).flatten();
        let value = unquote(quoted.unwrap_or_else(|| value.split_whitespace().next().unwrap_or_default()));
        let Some((_, means)) = table.iter().find(|(name, _)| *name == word) else { continue };
        if value.is_empty() || value.starts_with('[') || value.contains(['$', '%']) {
            continue;
        }
        // Whence a relative path begins depends on how the program was started: most often here.
        let path = Env::join(env.directory(), value);
        let said = match means {
            File(what) => env.name(path, *what, value.starts_with('/'), line),
            Include => Said::Include(path, parse),
            IncludeDirectory(ending) => Said::Include(format!("{}/*{ending}", super::escape(&path)), parse),
        };
        say(env, said);
    }
}
