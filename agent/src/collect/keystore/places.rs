//! Where distributions and programs keep keys: what is looked at unless the configuration says otherwise. A place that is not
//! there costs a system call. `docs/reference/discovery.md` shows the list, and a test compares them.

/// Debian, Ubuntu, RHEL, Fedora, SUSE, Arch, Alpine; and programs that have a place of their own on all of them.
pub(super) const PLACES: &[&str] = &[
    // The system's own, and what it trusts.
    "/etc/{ssl,pki,tls,ca-certificates,certs,certificates,keys}",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
    "/etc/ssh",
    // Signers of packages.
    "/etc/apt/{trusted.gpg,trusted.gpg.d,keyrings}",
    "/usr/share/keyrings",
    "/usr/lib/rpm/gnupg/keys",
    "/etc/apk/keys",
    "/etc/pacman.d/gnupg",
    // Who renews certificates.
    "/etc/{letsencrypt,dehydrated,lego,acme.sh,certmonger}",
    "/var/lib/{acme,dehydrated,certmonger,caddy,lego}",
    // Users.
    "~*/.{ssh,gnupg,pki,postgresql,globus,step,acme.sh,cert,certs}",
    "~*/.kube/*config*",
    "~*/.docker/*.pem",
    "~*/.minikube/{certs,profiles,ca.*,proxy-client-ca.*}",
    "~*/.local/share/{mkcert,caddy}",
    "~*/.config/{step,wireguard}",
    // Networks.
    "/etc/{wireguard,openvpn,ipsec.d,swanctl,strongswan,nebula,tinc,stunnel}",
    "/etc/systemd/network",
    "/etc/NetworkManager/{certs,system-connections}",
    "/etc/{raddb,freeradius}/**/certs",
    // Containers.
    "/etc/{kubernetes,rancher,docker,crio}",
    "/etc/containers/certs.d",
    "/etc/containerd/certs.d",
    "/var/lib/{kubelet,kubernetes}/pki",
    "/var/lib/kubelet/kubeconfig",
    "/var/lib/rancher/{k3s,rke2}/{server,agent}/tls",
    "/var/lib/rancher/{k3s,rke2}/{server,agent}/*.{crt,key,kubeconfig}",
    "/var/lib/minikube/certs",
    "/etc/etcd",
    // Web, mail, names, directories.
    "/etc/{nginx,apache2,httpd,haproxy,caddy,traefik,lighttpd,envoy,squid,varnish,hitch}",
    "/etc/{postfix,dovecot,exim4,exim,opendkim,dkimkeys,cyrus,courier}",
    "/etc/{vsftpd,proftpd,pure-ftpd,cockpit,webmin}",
    "/etc/{bind,named,unbound,nsd,knot}",
    "/etc/{ldap,openldap,ipa,dirsrv,sssd}",
    // Databases and queues; of their data directories only what lies beside the configuration.
    "/etc/{postgresql,postgresql-common,mysql,my.cnf.d,mongod,redis,valkey,rabbitmq,mosquitto,kafka,cassandra,elasticsearch,opensearch}",
    "/var/lib/{postgresql,pgsql}/*/{main,data}/*.{crt,key,pem,crl}",
    "/var/lib/{pgsql,postgres}/data/*.{crt,key,pem,crl}",
    "/var/lib/postgresql/data/*.{crt,key,pem,crl}",
    "/var/lib/mysql/*.pem",
    // Who keeps secrets, watches, or configures others.
    "/etc/{vault.d,vault,consul.d,consul,nomad.d,prometheus,grafana,loki,alertmanager,zabbix,logstash,rsyslog.d,syslog-ng}",
    "/etc/puppetlabs/puppet/ssl",
    "/var/lib/puppet/ssl",
    "/var/lib/icinga2/certs",
    "/etc/{chef,salt}",
    "/etc/gitlab/{ssl,trusted-certs}",
    "/opt/vault/tls",
    // Programs that nobody has heard of.
    "/etc/*/{ssl,tls,pki,cert,certs,certificates,keys,private,keystore}",
    "/usr/local/etc",
    "/usr/local/*/{ssl,tls,certs,conf}",
    "/opt/*/{ssl,tls,pki,cert,certs,keys,conf,config,etc}",
    "/srv/*/{ssl,tls,pki,cert,certs,keys}",
];
