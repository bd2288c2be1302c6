//! Configuration files that name key files: one file a program, each text to what it says, in its order. No I/O: whoever
//! reads the files follows their includes and tells the parser which file it is in. Called by the keystore sensor.

pub mod apache;
pub mod dovecot;
mod environment;
pub mod haproxy;
pub mod keyed;
pub mod kubeconfig;
pub mod nginx;
pub mod paths;
pub mod postfix;
pub mod postgresql;
pub mod sshd;
pub mod systemd;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

/// Variables that one program may set; more are not known, and what uses them names nothing.
const VARIABLES_MAX: usize = 1_000;
/// Values that all variables may have which have several, and paths that may come of one that is written with them.
const VALUES_MAX: usize = 2_000;
/// Stands in a text for what only the running program knows.
const UNKNOWN: char = '\0';

/// What a named file is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Certificates, perhaps with their key.
    Certificate,
    /// A private key.
    Key,
    /// Certificates or keys of those who are trusted; a file or a directory.
    Authorities,
    /// A list of what is revoked; a file or a directory.
    Revocations,
    /// Public keys of those who may log in; may well be empty.
    AuthorizedKeys,
    /// Something else that belongs to a key: a password.
    Other,
}

/// A file that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Absolute path, or a pattern as `[keystore] paths` has it.
    pub path: String,
    /// `path` is a pattern: the program puts something in when it knows more.
    pub is_pattern: bool,
    /// What it is there for.
    pub what: What,
    /// The program fails without it.
    pub must: bool,
    /// File in which it is named.
    pub file: String,
    /// Line there, from 1.
    pub line: u32,
    /// Endings of which each may stand behind the path, as a pattern has them: `{,.rsa}`.
    pub endings: &'static str,
}

/// What a configuration says.
#[derive(Debug, Clone)]
pub enum Said {
    /// It names something that is no file, or one that cannot be known: line and reason.
    Unknown(u32, String),
    /// It names a file.
    Name(Name),
    /// It goes on in other files: an absolute path or glob.
    Include(String, Parse),
}

/// What is known while the files of one program are read, one after the other as they include each other.
#[derive(Debug, Clone, Default)]
pub struct Env {
    /// The file that is read, absolute.
    pub file: String,
    /// The file that includes all others.
    pub main: String,
    /// Variables and settings, and where each was set.
    settings: BTreeMap<String, Setting>,
    /// Variables that have one of several values, as it comes.
    choices: BTreeMap<String, BTreeSet<String>>,
    /// What is named by variables that may be set later.
    later: Vec<Later>,
    /// Blocks that are read where they are used, by name.
    macros: BTreeMap<String, Macro>,
    /// How often they were.
    uses: usize,
}

/// A block with parameters.
#[derive(Debug, Clone, Default)]
struct Macro {
    parameters: Vec<String>,
    lines: Vec<(u32, String)>,
}

/// A name that is followed once all is read.
#[derive(Debug, Clone)]
struct Later {
    text: String,
    what: What,
    file: String,
    line: u32,
}

#[derive(Debug, Clone, Default)]
struct Setting {
    value: String,
    file: String,
    line: u32,
}

/// Takes in what is said, and the files that are included there.
pub type Say<'a> = dyn FnMut(&mut Env, Said) + 'a;
/// Reads one file of a program.
pub type Parse = fn(&str, &mut Env, &mut Say<'_>);

/// A program, and where its configuration begins: patterns.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// As people call it.
    pub name: &'static str,
    /// Files that nobody includes.
    pub files: &'static [&'static str],
    /// How they are read.
    pub parse: Parse,
}

/// All programs whose configuration is understood.
pub const PROGRAMS: &[Program] = &[
    program(
        "nginx",
        &["/etc/nginx/nginx.conf", "/usr/local/nginx/conf/nginx.conf", "/usr/local/etc/nginx/nginx.conf", "/opt/nginx/conf/nginx.conf"],
        nginx::parse,
    ),
    program(
        "apache",
        &["/etc/apache2/{apache2,httpd}.conf", "/etc/httpd/conf/httpd.conf", "/usr/local/apache2/conf/httpd.conf", "/usr/local/etc/apache24/httpd.conf"],
        apache::parse,
    ),
    program("haproxy", &["/etc/haproxy/haproxy.cfg", "/etc/haproxy/conf.d/*.cfg", "/usr/local/etc/haproxy/haproxy.cfg"], haproxy::parse),
    program("postfix", &["/etc/postfix/main.cf", "/etc/postfix-*/main.cf"], postfix::parse),
    program("sshd", &["/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config"], sshd::parse),
    program("ssh", &["/etc/ssh/ssh_config", "/usr/etc/ssh/ssh_config", "~*/.ssh/config"], sshd::client),
    program("systemd", &["/etc/systemd/{system,user}/*.service", "/etc/systemd/{system,user}/*.d/*.conf"], systemd::parse),
    program(
        "postgresql",
        &[
            "/etc/postgresql/*/*/postgresql.conf",
            "/var/lib/pgsql/data/postgresql.conf",
            "/var/lib/pgsql/*/data/postgresql.conf",
            "/var/lib/postgres/data/postgresql.conf",
        ],
        postgresql::parse,
    ),
    program(
        "postgresql",
        &["/var/lib/postgresql/data/postgresql.conf", "/var/lib/postgresql/*/{data,docker}/postgresql.conf", "/usr/local/pgsql/data/postgresql.conf"],
        postgresql::parse,
    ),
    program("dovecot", &["/etc/dovecot/dovecot.conf"], dovecot::parse),
    program("dovecot", &["/etc/dovecot/*.conf.ext"], paths::parse),
    program("stunnel", &["/etc/stunnel/*.conf", "/usr/local/etc/stunnel/*.conf"], keyed::stunnel),
    program("openvpn", &["/etc/openvpn/*.{conf,ovpn}", "/etc/openvpn/{server,client}/*.{conf,ovpn}"], keyed::openvpn),
    program("mysql", &["/etc/mysql/my.cnf", "/etc/my.cnf"], keyed::mysql),
    program("redis", &["/etc/{redis,valkey}/*.conf", "/etc/{redis,valkey}.conf"], keyed::redis),
    program("mosquitto", &["/etc/mosquitto/mosquitto.conf"], keyed::mosquitto),
    program("openldap", &["/etc/{ldap,openldap}/{ldap,slapd}.conf", "/etc/{ldap,openldap}/slapd.d/cn=config.ldif"], keyed::openldap),
    program("coturn", &["/etc/turnserver.conf", "/etc/coturn/turnserver.conf"], keyed::coturn),
    program("vsftpd", &["/etc/vsftpd.conf", "/etc/vsftpd/vsftpd.conf"], keyed::vsftpd),
    program(
        "kubernetes",
        &["/etc/kubernetes/*.conf", "/etc/kubernetes/manifests/*.{yaml,yml,json}", "/var/lib/kubelet/{config.yaml,kubeconfig}"],
        paths::parse,
    ),
    program("kubectl", &["~*/.kube/config"], kubeconfig::parse),
    program("docker", &["/etc/docker/daemon.json"], paths::parse),
    program("etcd", &["/etc/etcd/*.{conf,yml,yaml}", "/etc/default/etcd"], paths::parse),
    program("vault", &["/etc/vault{,.d}/*.{hcl,json}"], paths::parse),
    program("consul", &["/etc/consul{,.d}/*.{hcl,json}"], paths::parse),
    program("nomad", &["/etc/nomad{,.d}/*.{hcl,json}"], paths::parse),
    program("prometheus", &["/etc/prometheus/*.{yml,yaml}"], paths::parse),
    program("grafana", &["/etc/grafana/*.ini"], paths::parse),
    program("rabbitmq", &["/etc/rabbitmq/*.{conf,config}", "/etc/rabbitmq/conf.d/*.conf"], paths::parse),
    program("traefik", &["/etc/traefik/*.{yml,yaml,toml}", "/etc/traefik/*/*.{yml,yaml,toml}"], paths::parse),
    program("caddy", &["/etc/caddy/Caddyfile", "/etc/caddy/*/*"], paths::parse),
    program("gitea", &["/etc/{gitea,forgejo}/app.ini", "/etc/gitlab/gitlab.rb"], paths::parse),
    program("lighttpd", &["/etc/lighttpd/lighttpd.conf", "/etc/lighttpd/conf*/*.conf"], paths::parse),
    program("exim", &["/etc/exim4/*.conf{,.*}", "/etc/exim{,4}/exim.conf"], paths::parse),
    program("elasticsearch", &["/etc/{elasticsearch,opensearch}/*.yml"], paths::parse),
    program("bind", &["/etc/bind/named.conf*", "/etc/named.conf"], paths::parse),
    program("rsyslog", &["/etc/rsyslog.conf", "/etc/rsyslog.d/*.conf"], paths::parse),
    program("mongodb", &["/etc/mongo{d,s,db}.conf"], paths::parse),
    program("kafka", &["/etc/{kafka,zookeeper}/*.{properties,cfg}", "/opt/{kafka,zookeeper}/{conf,config}/*.{properties,cfg}"], paths::parse),
    program("cassandra", &["/etc/{cassandra,scylla}/*.yaml", "/etc/cassandra/conf/*.yaml"], paths::parse),
    program("tomcat", &["/etc/tomcat*/server.xml", "/opt/tomcat*/conf/server.xml", "/usr/share/tomcat*/conf/server.xml"], paths::parse),
    program("prosody", &["/etc/prosody/prosody.cfg.lua", "/etc/prosody/conf.d/*.lua"], paths::parse),
    program("ejabberd", &["/etc/ejabberd/*.yml", "/opt/ejabberd/conf/*.yml"], paths::parse),
    program("unbound", &["/etc/unbound/unbound.conf", "/etc/unbound/*.d/*.conf"], paths::parse),
    program("squid", &["/etc/squid/squid.conf", "/etc/squid/conf.d/*.conf"], paths::parse),
    program("hitch", &["/etc/hitch/*.conf", "/etc/{envoy,varnish}/*.{yaml,yml,json,params}"], paths::parse),
    program("opendkim", &["/etc/{opendkim,openarc}.conf", "/etc/{opendkim,dkimkeys}/{KeyTable,key.table,keytable}"], paths::parse),
    program("samba", &["/etc/samba/smb.conf"], paths::parse),
    program("libvirt", &["/etc/libvirt/*.conf"], paths::parse),
    program("zabbix", &["/etc/zabbix/*.conf", "/etc/zabbix/*.d/*.conf"], paths::parse),
    program("beats", &["/etc/{filebeat,metricbeat,logstash,kibana,opensearch-dashboards,telegraf,fluent-bit}/*.{yml,yaml,conf}"], paths::parse),
    program("wpa_supplicant", &["/etc/wpa_supplicant/*.conf", "/etc/hostapd/*.conf"], paths::parse),
    program("networkmanager", &["/etc/NetworkManager/system-connections/*"], paths::parse),
    program("proftpd", &["/etc/proftpd/*.conf", "/etc/proftpd/conf.d/*.conf", "/etc/proftpd.conf"], paths::parse),
];

const fn program(name: &'static str, files: &'static [&'static str], parse: Parse) -> Program {
    Program { name, files, parse }
}

impl Env {
    /// What is known at the beginning of `file`.
    #[must_use]
    pub fn at(file: &str) -> Self {
        Self { file: file.to_owned(), main: file.to_owned(), ..Self::default() }
    }

    /// What is set, as a number that is another where something else is set: then the same file may say something else.
    #[must_use]
    pub fn state(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.settings.iter().for_each(|(name, setting)| (name, &setting.value).hash(&mut hasher));
        hasher.finish()
    }

    /// Sets a variable. One that would be one too many, or is too long, stays unknown.
    fn set(&mut self, name: &str, value: &str, line: u32) {
        let is_bounded = self.settings.len() < VARIABLES_MAX || self.settings.contains_key(name);
        if is_bounded && name.len() + value.len() <= keyvigil_common::limits::TEXT_BYTES_MAX {
            self.settings.insert(name.to_owned(), Setting { value: value.to_owned(), file: self.file.clone(), line });
        }
    }

    /// Adds one of the values that a variable may have; whether there was room.
    fn choose(&mut self, name: &str, value: &str) -> bool {
        let count: usize = self.choices.values().map(BTreeSet::len).sum();
        let fits = count < VALUES_MAX && name.len() + value.len() <= keyvigil_common::limits::TEXT_BYTES_MAX;
        if fits {
            self.choices.entry(name.to_owned()).or_default().insert(value.to_owned());
        }
        fits
    }

    fn unset(&mut self, name: &str) {
        self.settings.remove(name);
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|setting| setting.value.as_str())
    }

    /// Directory of the file that is read.
    fn directory(&self) -> &str {
        directory(&self.file)
    }

    /// `path` as seen from `base`, where it is not absolute.
    fn join(base: &str, path: &str) -> String {
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", base.trim_end_matches('/')) };
        // People write `../ssl/x.pem`. By the text alone: where a link stands before the dots, the system may see another file.
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let end = if whole.ends_with('/') && !parts.is_empty() { "/" } else { "" };
        format!("/{}{end}", parts.join("/"))
    }

    /// A file that is named by its absolute path.
    fn name(&self, path: String, what: What, must: bool, line: u32) -> Said {
        let is_known = !path.contains(UNKNOWN);
        let path = if is_known { path } else { with_stars(&path) };
        Said::Name(Name { path, is_pattern: !is_known, what, must: must && is_known, file: self.file.clone(), line, endings: "" })
    }

    fn pattern(&self, path: String, what: What, line: u32) -> Said {
        Said::Name(Name { path, is_pattern: true, what, must: false, file: self.file.clone(), line, endings: "" })
    }
}

/// A pattern in which any text may stand where `text` says that it is not known.
fn with_stars(text: &str) -> String {
    text.split(UNKNOWN).map(escape).collect::<Vec<_>>().join("*")
}

/// All but the last part of a path.
fn directory(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((directory, _)) => directory,
    }
}

/// Keeps the characters that a pattern would read from being read.
fn escape(text: &str) -> String {
    text.chars().flat_map(|c| "*?[{}\\".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests;
