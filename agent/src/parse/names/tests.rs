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
        });
    });
    list
}

#[test]
fn nginx() {
    let text = "http {\n  include sites-enabled/*;\n  server { # one\n    ssl_certificate 'shop a.crt'; ssl_certificate_key /k/shop\\;.key;\n  }\n  # ssl_crl /no;\n  \
        server { ssl_certificate\n /etc/x/$ssl_server_name.crt; ssl_certificate_key data:$key; proxy_ssl_trusted_certificate /ca.pem; ssl_crl /r.pem }\n  \
        ssl_certificate \"/a${host}b[1].pem\"; ssl_certificate_key engine:x; }";
    let expected = [
        "include /etc/nginx/sites-enabled/*",
        "4 Certificate /etc/nginx/shop a.crt",
        "4 Key /k/shop;.key",
        "8 Certificate~ /etc/x/*.crt",
        "8 Authorities /ca.pem",
        r"9 Certificate~ /a*b\[1].pem",
    ];
    assert_eq!(said(nginx::parse, "/etc/nginx/nginx.conf", text), expected, "a directive that no ; ends is none");
}

#[test]
fn apache() {
    let text = "ServerRoot \"/etc/httpd\"\nDefine SITE shop\nDefine SITE_${SITE} x\nInclude conf.d/*.conf\n<IfDefine !SITE>\n<IfDefine A>\n</IfDefine>\nSSLCertificateFile /no\n</IfDefine>\n\
        <IfDefine SITE>\n sslcertificatefile \\\n  ssl/${SITE}.crt\n</IfDefine>\nSSLCertificateKeyFile /k/${UNKNOWN}.key\nSSLCertificateKeyFile pkcs11:token=x\n#SSLCACertificateFile /no\nSSLCACertificatePath /ca/\nSSLCARevocationFile '/r 1.pem'\nIncludeOptional /x/*.conf";
    let expected =
        ["include /etc/httpd/conf.d/*.conf", "11 Certificate /etc/httpd/ssl/shop.crt", "17 Authorities /ca/", "18 Revocations /r 1.pem", "include /x/*.conf"];
    assert_eq!(said(apache::parse, "/etc/apache2/apache2.conf", text), expected);
}

#[test]
fn haproxy() {
    let text = "global\n  crt-base /etc/certs # here\n  ca-base /etc/ca\nfrontend f\n  bind :443 ssl crt shop.pem crt /abs/dir crt-list /l.txt ca-file ca.pem crl-file \"r l.pem\"\n  \
        server s 1:1 ssl crt \"${X}.pem\" ca-file @system-ca\ncrt-store\n  load crt a.crt key /k.key";
    let expected = [
        "5 Certificate /etc/certs/shop.pem",
        "5 Key? /etc/certs/shop.pem.key",
        "5 Certificate /abs/dir",
        "5 Key? /abs/dir.key",
        "include /l.txt",
        "5 Authorities /etc/ca/ca.pem",
        "5 Revocations /etc/ca/r l.pem",
        "8 Certificate /etc/certs/a.crt",
        "8 Key? /etc/certs/a.crt.key",
        "8 Key /k.key",
    ];
    assert_eq!(said(haproxy::parse, "/etc/haproxy/haproxy.cfg", text), expected);
    let list = said(haproxy::list, "/l.txt", "# remark\n/a.pem [alpn h2] *.example.org\nrelative.pem\n\n/b.pem");
    assert_eq!(list, ["2 Certificate /a.pem", "2 Key? /a.pem.key", "5 Certificate /b.pem", "5 Key? /b.pem.key"]);
}

#[test]
fn postfix() {
    let text = "# smtpd_tls_cert_file = /no\nbase = /etc/$name\nname = certs\nsmtpd_tls_cert_file = /old\nsmtpd_tls_cert_file = ${base}/c.pem\nsmtpd_tls_key_file = $smtpd_tls_cert_file\nsmtp_tls_CAfile =\nsmtp_tls_chain_files =\n  # a remark\n  /k1.pem,\n  $config_directory/k2.pem\nloop_tls_cert_file = $loop_tls_cert_file\nsmtpd_tls_dcert_file = none\n";
    let expected = [
        "8 Certificate /k1.pem",
        "8 Certificate /etc/postfix/k2.pem",
        "5 Certificate /etc/certs/c.pem",
        "6 Key /etc/certs/c.pem",
        "include /etc/postfix/master.cf",
    ];
    assert_eq!(said(postfix::parse, "/etc/postfix/main.cf", text), expected);
    let master = "submission inet n - y - - smtpd\n  -o syslog_name=x\n  -o smtpd_tls_cert_file=/s.pem\nx unix - - - - - pipe -osmtp_tls_key_file=/k.pem";
    assert_eq!(said(postfix::master, "/etc/postfix/master.cf", master), ["1 Certificate /s.pem", "4 Key /k.pem"]);
}

#[test]
fn sshd() {
    let text = "Include sshd_config.d/*.conf /more/*\nhostkey /etc/ssh/k1\nHostKey=\"/etc/ssh/k 2\"\nHostKey none\n#HostKey /no\nMatch User bob\n  AuthorizedKeysFile .ssh/authorized_keys /etc/keys/%u %h/.k/a[1] /x/100%%\nTrustedUserCAKeys /ca.pub # yes\nRevokedKeys /krl";
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
}

#[test]
fn dovecot() {
    let text = "!include conf.d/*.conf\n!include_try /local.conf\nssl_cert = </etc/ssl/d.pem\nlocal_name a {\n  ssl_key = < k.pem\n}\nssl_cipher_list = x\nssl_server_cert_file = /new.pem\nssl_client_ca_dir = /ca\n#ssl_ca = </no";
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
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "(ssl_certificate|SSLCertificateFile|Define|crt|bind|include|\\$\\{|[<>{}=;:#'\"\\\\/%$ \n\tab*\\[\\]é])*") {
        for program in PROGRAMS {
            (program.parse)(&text, &mut Env::at("/etc/x/y"), &mut |_, _| ());
        }
        haproxy::list(&text, &mut Env::at("/l"), &mut |_, _| ());
        postfix::master(&text, &mut Env::at("/m"), &mut |_, _| ());
    }
}
