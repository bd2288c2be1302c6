//! What each program's configuration says, read as the program reads it.

use proptest::prelude::*;

use super::*;

/// What `text` says when it is the file at `main`: names as `line what path`, with `?` where it may be missing and `~` where it
/// is a pattern, and includes.
fn said(parse: Parse, main: &str, text: &str) -> Vec<String> {
    let mut list = Vec::new();
    parse(text, &mut Env::at(main), &mut |_, said| {
        list.push(match said {
            Said::Name(Name { path, is_pattern, what, must, line, .. }) => {
                format!(
                    "{line} {what:?}{} {path}",
                    if is_pattern {
                        "~"
                    } else if must {
                        ""
                    } else {
                        "?"
                    }
                )
            }
            Said::Include(path, _) => format!("include {path}"),
            Said::Unknown(line, why) => format!("{line} unknown: {why}"),
        });
    });
    list
}

#[test]
fn nginx() {
    let text = "http {\n  include sites-enabled/*;\n  server { # one\n    ssl_certificate 'shop a.crt'; ssl_certificate_key /k/shop\\\\x.key;\n  }\n  # ssl_crl /no;\n  \
        server { ssl_certificate\n /etc/x/$ssl_server_name.crt; ssl_certificate_key engine:x; proxy_ssl_trusted_certificate /ca.pem; ssl_crl /r.pem }\n  \
        ssl_certificate \"/a${host}b[1].pem\"; }";
    let expected = [
        "include /etc/nginx/sites-enabled/*",
        "4 Certificate /etc/nginx/shop a.crt",
        r"4 Key /k/shop\x.key",
        "8 unknown: names a key that is not in a file (engine:)",
        "8 Authorities /ca.pem",
        "8 Certificate~ /etc/x/*.crt",
        r"9 Certificate~ /a*b\[1].pem",
    ];
    assert_eq!(said(nginx::parse, "/etc/nginx/nginx.conf", text), expected, "a directive that no ; ends is none");
}

#[test]
fn nginx_with_variables() {
    let text = "http {\n server { ssl_certificate $crt; ssl_certificate_key $dir/$key.key; }\n map $ssl_server_name $crt {\n  hostnames; volatile;\n  a.example /etc/x/a.pem;\n  '~^(?<n>.+)\\.b$' /etc/x/$n.pem;\n  default certs/d.pem;\n  include more.map;\n }\n \
        map $host $key { default k1; x k2; }\n set $dir /keys;\n content_by_lua_block { -- 'tis {a} quote\n }\n server { ssl_certificate data:$pem; ssl_certificate_key $unheard; ssl_certificate_key \"data:-----BEGIN PRIVATE KEY-----\n\"; }\n map $a $loop { x $loop; }\n ssl_crl $loop;\n ssl_certificate /last.pem; }";
    let expected = [
        "include /etc/nginx/more.map",
        "14 Key? /etc/nginx/nginx.conf",
        "18 Certificate /last.pem",
        "2 Certificate /etc/x/a.pem",
        "2 Certificate~ /etc/x/*.pem",
        "2 Certificate /etc/nginx/certs/d.pem",
        "2 Key? /keys/k1.key",
        "2 Key? /keys/k2.key",
        "14 unknown: names no file but what a variable holds when somebody connects (data:)",
        "14 unknown: names a file by a variable of which nothing is known before somebody connects",
        "17 unknown: names a file by a variable of which nothing is known before somebody connects",
    ];
    let mut told = said(nginx::parse, "/etc/nginx/nginx.conf", text);
    told.sort_by_key(|line| expected.iter().position(|expected| expected == line));
    assert_eq!(told, expected);
    // As many values as the product of all that are known.
    let bomb: String = (0..20).map(|n| format!("map $h $v{n} {{ a $v{0}$v{0}; b $v{0}x; c y; }}\n", n + 1)).collect();
    let told = said(nginx::parse, "/n.conf", &format!("{bomb}ssl_certificate $v0$v1$v2$v3;"));
    assert!(told.len() <= VALUES_MAX, "{}", told.len());
    let many: String = (0..3_000).map(|n| format!("host{n} /c/{n}.pem;\n")).collect();
    let told = said(nginx::parse, "/n.conf", &format!("map $h $crt {{ {many} }} ssl_certificate $crt;"));
    assert!(told.iter().any(|line| line.contains("more values than are followed")) && told.contains(&"3001 Certificate /c/0.pem".to_owned()), "{}", told[0]);
}

#[test]
fn apache() {
    let text = "ServerRoot \"/etc/httpd\"\nDefine SITE shop\nDefine SITE_${SITE} x\nInclude conf.d/*.conf\n<IfDefine !SITE>\n<IfDefine A>\n</IfDefine>\nSSLCertificateFile /no\n</IfDefine>\n\
        <IfDefine SITE>\n sslcertificatefile \\\n  ssl/${SITE}.crt\n</IfDefine>\nSSLCertificateKeyFile /k/${UNKNOWN}.key\nSSLCertificateKeyFile pkcs11:token=x\n#SSLCACertificateFile /no\nSSLCACertificatePath /ca/\nSSLCARevocationFile '/r 1.pem'\nIncludeOptional /x/*.conf";
    let expected = [
        "include /etc/apache2/envvars",
        "include /etc/sysconfig/httpd",
        "include /etc/httpd/conf.d/*.conf",
        "11 Certificate /etc/httpd/ssl/shop.crt",
        "14 unknown: names a file by a variable that no configuration sets",
        "15 unknown: names a key that is not in a file (pkcs11:)",
        "17 Authorities /ca/",
        "18 Revocations /r 1.pem",
        "include /x/*.conf",
    ];
    assert_eq!(said(apache::parse, "/etc/apache2/apache2.conf", text), expected);
}

#[test]
fn apache_with_blocks_that_may_hold() {
    let text = "LoadModule ssl_module modules/mod_ssl.so\n<IfModule mod_ssl.c>\nSSLCertificateFile /a\n</IfModule>\n<IfModule !ssl_module>\nSSLCertificateFile /no\n<IfModule x>\n</IfModule>\n</IfModule>\n\
        <IfModule mod_gnutls.c>\nGnuTLSCertificateFile /b\n</IfModule>\n<IfVersion >= 2.4>\n<VirtualHost *:443>\nSSLCertificateFile /c\n</VirtualHost>\n</IfVersion>\n\
        </IfModule>\n<IfModule a_module>\n<Macro VHost $name ${dir}>\n<VirtualHost *>\nSSLCertificateFile ${dir}/ssl/$name.crt\nSSLCertificateKeyFile /k/$name/[1].key\n</VirtualHost>\n</Macro>\nUse vhost a /x\nUse VHost b y\nUse VHost\nUse None c\n<Macro Loop $a>\nUse Loop $a$a\nUse Loop $a\n</Macro>\nUse Loop x\nSSLCertificateFile /d\n</IfModule>\nLDAPTrustedGlobalCert CA_BASE64 /ldap.pem";
    let expected = [
        "3 Certificate /a",
        "11 Certificate? /b",
        "15 Certificate? /c",
        "22 Certificate? /x/ssl/a.crt",
        "23 Key? /k/a/[1].key",
        "22 Certificate? /etc/httpd/conf/y/ssl/b.crt",
        "23 Key? /k/b/[1].key",
        "22 unknown: names a file by a variable that no configuration sets",
        "23 Key? /k/$name/[1].key",
        "35 Certificate? /d",
        "37 Authorities /ldap.pem",
    ];
    assert_eq!(said(apache::parse, "/etc/httpd/conf/httpd.conf", text)[2..], expected);
}

#[test]
fn haproxy() {
    let text = "global\n  crt-base /etc/certs # here\n  ca-base /etc/ca\nfrontend f\n  bind :443 ssl crt shop.pem crt /abs/dir crt-list /l.txt ca-file ca.pem crl-file \"r l.pem\"\n  \
        server s 1:1 ssl crt \"${X}.pem\" ca-file @system-ca\ncrt-store\n  crt-base /store\n  load crt a.crt key /k.key\nfrontend g\n  ssl-f-use crt \"b.pem\" key b.key";
    let kinds = |path: &str, line: u32| {
        [
            format!("{line} Certificate {path}"),
            format!("{line} Key? {}.key", path.trim_end_matches(".pem").trim_end_matches(".crt")),
            format!("{line} Key? {path}.key"),
        ]
    };
    let told = said(haproxy::parse, "/etc/haproxy/haproxy.cfg", text);
    for (path, line) in [("/etc/certs/shop.pem", 5), ("/store/a.crt", 9), ("/etc/certs/b.pem", 11)] {
        assert!(kinds(path, line).iter().all(|line| told.contains(line)), "{path}: {told:#?}");
    }
    for line in ["5 Certificate /abs/dir", "include /l.txt", "5 Authorities /etc/ca/ca.pem", "5 Revocations /etc/ca/r l.pem", "9 Key /k.key"] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:#?}");
    }
    let unknown: Vec<&String> = told.iter().filter(|line| line.contains("unknown")).collect();
    assert!(unknown[0].starts_with("6 unknown: names a file by a variable of the environment"), "{unknown:?}");
    assert!(unknown[1].starts_with("11 unknown: names \"b.key\", which begins in the directory where the program was started"), "{unknown:?}");
    let list = said(haproxy::list, "/l.txt", "# remark\n/a.pem [alpn h2 ca-file /ca.pem] *.example.org\nrelative.pem\n\n/b.pem");
    assert_eq!(list[..4], ["2 Certificate /a.pem", "2 Key? /a.key", "2 Key? /a.pem.key", "2 Authorities /ca.pem"]);
    assert!(list[4].starts_with("3 unknown") && list[5] == "5 Certificate /b.pem", "{list:?}");
    let set = "global\n setenv DIR /srv/tls\n presetenv DIR /no\n default-path config\nfrontend f\n bind :1 ssl crt \"${DIR}/${WHAT-site}.pem\" ca-file ca.pem";
    let told = said(haproxy::parse, "/srv/h/haproxy.cfg", set);
    assert!(told.contains(&"6 Certificate /srv/tls/site.pem".to_owned()) && told.contains(&"6 Authorities /srv/h/ca.pem".to_owned()), "{told:?}");
}

#[test]
fn postfix() {
    let text = "# smtpd_tls_cert_file = /no\nbase = /etc/$name\nname = certs\nsmtpd_tls_cert_file = /old\nsmtpd_tls_cert_file = ${base}/c.pem\nsmtpd_tls_key_file = $smtpd_tls_cert_file\nsmtp_tls_CAfile =\nsmtp_tls_chain_files =\n  # a remark\n  /k1.pem,\n  $config_directory/k2.pem\nloop_tls_cert_file = $loop_tls_cert_file\nsmtpd_tls_dcert_file = none\n";
    let expected = [
        "12 unknown: says by references what loop_tls_cert_file is, which cannot be followed",
        "8 Certificate /k1.pem",
        "8 Certificate /etc/postfix/k2.pem",
        "5 Certificate /etc/certs/c.pem",
        "6 Key /etc/certs/c.pem",
        "include /etc/postfix/master.cf",
    ];
    assert_eq!(said(postfix::parse, "/etc/postfix/main.cf", text), expected);
    let master = "submission inet n - y - - smtpd\n  -o syslog_name=x\n  -o smtpd_tls_cert_file=/s.pem\n  -o { smtpd_tls_chain_files = /a.pem, /b.pem }\nx unix - - - - - pipe -osmtp_tls_key_file=/k.pem\n\
        y unix - - - - - smtp -o mine=/y.pem -o smtp_tls_cert_file=$mine\nz unix - - - - - smtp -o smtp_tls_cert_file=$mine";
    let expected = [
        "1 Certificate /s.pem",
        "1 Certificate /a.pem",
        "1 Certificate /b.pem",
        "5 Key /k.pem",
        "6 Certificate /y.pem",
        "7 unknown: begins smtp_tls_cert_file with what no line of the configuration sets",
    ];
    assert_eq!(said(postfix::master, "/etc/postfix/master.cf", master), expected);
}

#[test]
fn postfix_with_references_and_tables() {
    let text = "tls_server_sni_maps = texthash:$config_directory/sni, lmdb:/etc/sni2, ldap:/no\nset = yes\nsmtpd_tls_cert_file = /etc/letsencrypt/live/$myhostname/fullchain.pem\n\
        smtpd_tls_key_file = ${set?{/yes.pem}:{/no.pem}}\nsmtp_tls_key_file = ${unset?/no.pem}${unset:/else.pem}\ntlsproxy_client_cert_file = /proxy.pem\nsmtp_tls_CAfile = ${{a}=={b}?/x}\n";
    let expected = [
        "5 Key /else.pem",
        "7 unknown: says by references what smtp_tls_CAfile is, which cannot be followed",
        "3 Certificate~ /etc/letsencrypt/live/*/fullchain.pem",
        "4 Key /yes.pem",
        "include /etc/postfix/sni",
        "include /etc/sni2",
        "6 Certificate /proxy.pem",
        "include /etc/postfix/master.cf",
    ];
    let mut told = said(postfix::parse, "/etc/postfix/main.cf", text);
    told.sort_by_key(|line| expected.iter().position(|expected| expected == line));
    assert_eq!(told, expected);
    let many: String = (0..30).map(|n| format!(" $config_directory/{n}.pem")).collect();
    assert_eq!(said(postfix::parse, "/p/main.cf", &format!("smtpd_tls_chain_files ={many}")).len(), 31);
    let bomb: String = (0..9).map(|n| format!("v{n} = {}\n", format!("$v{}", n + 1).repeat(1_000))).collect();
    let told = said(postfix::parse, "/p/main.cf", &format!("{bomb}v9 =\nsmtpd_tls_cert_file = $v0/x"));
    assert!(told[0].contains("cannot be followed"), "{told:?}");
}

#[test]
fn apache_with_macros_that_grow() {
    let grows: String = (0..6)
        .map(|n| format!("<Macro M{n} $x>\n{}SSLCertificateFile /$x$x.pem\n</Macro>\n", format!("Use M{} $x$x$x$x$x$x$x$x\n", n + 1).repeat(200)))
        .collect();
    let told = said(apache::parse, "/a.conf", &format!("{grows}Use M0 abcdefgh\n"));
    assert!(told.len() < 30_000);
}

#[test]
fn sshd() {
    let text = "Include sshd_config.d/*.conf /more/*\nhostkey /etc/ssh/k1\nHostKey=\"/etc/ssh/k 2\"\nHostKey none\n#HostKey /no\nMatch User bob\n  AuthorizedKeysFile .ssh/authorized_keys /etc/keys/%u %h/.k/a[1] /x/100%%\nTrustedUserCAKeys = /ca.pub # yes\nRevokedKeys /krl";
    let expected = [
        "include /etc/ssh/sshd_config.d/*.conf",
        "include /more/*",
        "2 Key /etc/ssh/k1",
        "3 Key /etc/ssh/k 2",
        "7 AuthorizedKeys~ ~*/.ssh/authorized_keys",
        "7 AuthorizedKeys~ /etc/keys/*",
        r"7 AuthorizedKeys~ ~*/.k/a\[1]",
        "7 AuthorizedKeys~ /x/100%",
        "8 Authorities /ca.pub",
        "9 Revocations /krl",
    ];
    assert_eq!(said(sshd::parse, "/etc/ssh/sshd_config", text), expected);
    let text = "Include conf.d/*\nHost *\n IdentityFile ~/keys/%h\n IdentityFile keys/x\n CertificateFile %d/c.pub\n UserKnownHostsFile /dev/null none\n IdentityFile=/srv/deploy";
    let expected = [
        "include /home/bob/.ssh/conf.d/*",
        "3 Key~ /home/bob/keys/*",
        "4 Key? /home/bob/keys/x",
        "5 Certificate? /home/bob/c.pub",
        "6 Authorities? /dev/null",
        "7 Key? /srv/deploy",
    ];
    assert_eq!(said(sshd::client, "/home/bob/.ssh/config", text), expected);
    let expected =
        ["include /etc/ssh/conf.d/*", "3 Key~ ~*/keys/*", "4 Key~ ~*/keys/x", "5 Certificate~ ~*/c.pub", "6 Authorities? /dev/null", "7 Key? /srv/deploy"];
    assert_eq!(said(sshd::client, "/etc/ssh/ssh_config", text), expected);
}

#[test]
fn systemd() {
    let text = "[Service]\nLoadCredential=tls:/srv/app/tls-key\nLoadCredentialEncrypted=x:/etc/credstore/%i.cred\nLoadCredential=from-the-manager\nSetCredential=a:b\nExecStart=/usr/bin/app \\\n --cert=/srv/app/tls.crt --key /srv/app/$X.key\nEnvironment=\"CA=file:///srv/app/ca.pem\"\nDescription=/no.pem";
    let expected = ["2 Other? /srv/app/tls-key", "3 Other~ /etc/credstore/*.cred", "6 Certificate? /srv/app/tls.crt", "8 Certificate? /srv/app/ca.pem"];
    assert_eq!(said(systemd::parse, "/etc/systemd/system/app.service", text), expected);
}

#[test]
fn postgresql() {
    let text = "data_directory = '/var/lib/postgresql/15/main'\t# use data in another directory\nssl = on\nssl_cert_file = '/old'\nSSL_CERT_FILE 'it''s.crt'\nssl_key_file=server.key # x\n#ssl_ca_file = 'no'\nssl_crl_file = ''\ninclude_dir 'conf.d'\ninclude_if_exists = '/more.conf'";
    let expected = [
        "include /etc/postgresql/15/main/conf.d/*.conf",
        "include /more.conf",
        "include /var/lib/postgresql/15/main/postgresql.auto.conf",
        "4 Certificate /var/lib/postgresql/15/main/it's.crt",
        "5 Key /var/lib/postgresql/15/main/server.key",
    ];
    assert_eq!(said(postgresql::parse, "/etc/postgresql/15/main/postgresql.conf", text), expected);
    let off = said(postgresql::parse, "/data/postgresql.conf", "ssl_cert_file = 'server.crt'");
    assert_eq!(off, ["include /data/postgresql.auto.conf", "1 Certificate? /data/server.crt"]);
    let usual = said(postgresql::parse, "/data/postgresql.conf", "ssl = 'tru'");
    assert_eq!(usual[1..], ["1 Certificate /data/server.crt", "1 Key /data/server.key"]);
}

#[test]
fn dovecot() {
    let text = "!include conf.d/*.conf\n!include_try /local.conf\nssl_cert = </etc/ssl/d.pem\nlocal_name a {\n  ssl_key = < k.pem\n}\nssl_cipher_list = x\nssl_server_cert_file = /new.pem # since 2.4\nssl_client_ca_dir = /ca\n#ssl_ca = </no";
    let expected = [
        "include /etc/dovecot/conf.d/*.conf",
        "include /local.conf",
        "3 Certificate /etc/ssl/d.pem",
        "5 Key /etc/dovecot/k.pem",
        "8 Certificate /new.pem",
        "9 Authorities /ca",
    ];
    assert_eq!(said(dovecot::parse, "/etc/dovecot/dovecot.conf", text), expected);
}

#[test]
fn a_word_and_its_value() {
    assert_eq!(
        said(keyed::stunnel, "/etc/stunnel/a.conf", "[x]\nCAfile = /ca.pem\ncert=c.pem\n; key = /no"),
        ["2 Authorities /ca.pem", "3 Certificate? /etc/stunnel/c.pem"]
    );
    let openvpn = "ca \"/a b.crt\"\ncert server.crt # mine\nkey [inline]\n<ca>\ntls-auth /ta.key 0\n";
    assert_eq!(said(keyed::openvpn, "/etc/openvpn/x.conf", openvpn), ["1 Authorities /a b.crt", "2 Certificate? /etc/openvpn/server.crt", "5 Other /ta.key"]);
    let mysql = "[mysqld]\nssl-cert = /c.pem\nssl_key=/k.pem\n!includedir /etc/mysql/conf.d/\n";
    assert_eq!(said(keyed::mysql, "/etc/my.cnf", mysql), ["2 Certificate /c.pem", "3 Key /k.pem", "include /etc/mysql/conf.d//*.cnf"]);
    assert_eq!(said(keyed::openldap, "/etc/ldap/ldap.conf", "TLS_CACERT\t/etc/ssl/ca.crt\n"), ["1 Authorities /etc/ssl/ca.crt"]);
    let yaml = "users:\n- user:\n    client-certificate: /a.crt\n    client-key-data: QUJD\n  - --tls-private-key-file=/etc/kubernetes/pki/b.key\n  # /no.pem\n  x: \"http://host/c.pem\"";
    let kubeconfig =
        "clusters:\n- cluster: {certificate-authority: /ca}\n  name: c\nusers:\n- name: a\n  user:\n    client-certificate: ../a.crt\n    client-key: a.key\n";
    let expected = ["2 Authorities? /ca", "7 Certificate? /root/a.crt", "8 Key? /root/.kube/a.key"];
    assert_eq!(said(kubeconfig::parse, "/root/.kube/config", kubeconfig), expected);
    assert_eq!(said(paths::parse, "/etc/kubernetes/a.conf", yaml), ["3 Certificate? /a.crt", "5 Key? /etc/kubernetes/pki/b.key"]);
    let others = "certfiles:\n  - /etc/live/*/privkey.pem\nstorage = \"/srv/acme.json\"\n";
    assert_eq!(said(paths::parse, "/x.yml", others), ["2 Certificate~ /etc/live/*/privkey.pem", "3 Key? /srv/acme.json"]);
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "(ssl_certificate|SSLCertificateFile|Define|<Macro|<IfModule|map|set|LoadCredential=|_tls_key_file=|crt|bind|include|\\$\\{|[<>{}=;:#'\"\\\\/%$ \n\tab*\\[\\]é])*") {
        for program in PROGRAMS {
            (program.parse)(&text, &mut Env::at("/etc/x/y"), &mut |_, _| ());
        }
        haproxy::list(&text, &mut Env::at("/l"), &mut |_, _| ());
        postfix::master(&text, &mut Env::at("/m"), &mut |_, _| ());
        environment::parse(&text, &mut Env::at("/e"), &mut |_, _| ());
    }
}
