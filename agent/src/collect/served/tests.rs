//! The sensor against real servers: those of `openssl s_server`, and some of a few lines that behave badly.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::key::{KeyFacts, Place, Sighting};

use super::*;
use crate::collect::known::Around;
use crate::collect::tests::FakeHost;
use crate::testkit::Workshop;

/// What the sensor may ask: these ports.
struct Host {
    shop: Workshop,
    sensor: Served,
    known: KnownKeys,
    now: At,
}

impl Host {
    fn new(ports: &[u16]) -> Self {
        let known = KnownKeys::default();
        known.write(std::iter::empty(), Around::default());
        Self::with(Workshop::new(), ports, known)
    }

    fn with(shop: Workshop, ports: &[u16], known: KnownKeys) -> Self {
        let mut sorted = ports.to_vec();
        sorted.sort_unstable();
        let mut exclude = Vec::new();
        let mut first = 1;
        for port in sorted {
            exclude.extend((first < port).then(|| format!("{first}-{}", port - 1)));
            first = port + 1;
        }
        exclude.push(format!("{first}-65535"));
        let served = ServedConfig { exclude, names: Vec::new() };
        let context = Context { root: RootFs::host(), served, known: known.clone(), ..FakeHost::new().context() };
        let now = At { wall_ms: SystemClock::shared().now_ms(), monotonic: Duration::from_secs(100) };
        Self { shop, sensor: Served::new(&context), known, now }
    }

    fn look(&mut self) -> Sink {
        self.now = At { wall_ms: self.now.wall_ms + 11_000, monotonic: self.now.monotonic + Duration::from_secs(11) };
        let mut sink = Sink::new("web-1", self.now);
        self.sensor.collect(self.now, &mut sink);
        assert_eq!(sink.invalid, 0);
        sink
    }

    /// What the keystore sensor would say of these files.
    fn keystore(&self, files: &[&str]) {
        let held: Vec<(Arc<KeyFacts>, Place)> = files
            .iter()
            .flat_map(|file| {
                let objects = crate::parse::keys(&self.shop.read(file)).objects;
                objects.into_iter().map(|object| (Arc::new(object.facts), Place::at(self.shop.path(file).to_string_lossy())))
            })
            .collect();
        self.known.write(held.iter().map(|(facts, place)| (facts, place)), Around::default());
    }

    fn id(&self, certificate: &str) -> String {
        crate::parse::keys(&self.shop.read(certificate)).objects[0].facts.id.clone()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `openssl s_server` with those arguments, once it listens.
fn s_server(shop: &Workshop, port: u16, arguments: &str) -> Server {
    let all = format!("s_server -accept 127.0.0.1:{port} -quiet {arguments}");
    let mut command = Command::new("openssl");
    let child = command.args(all.split_ascii_whitespace()).current_dir(shop.root()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut server = Server(child.unwrap());
    let listens = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        crate::parse::procfs::tcp::listening(&table).any(|found| found.address.port() == port)
    };
    while !listens() {
        assert!(server.0.try_wait().unwrap().is_none(), "openssl {all} has ended");
        std::thread::yield_now();
    }
    server
}

/// A server that does that with each that comes, and how many came.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> (u16, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (came, comers) = sync_channel(1_000);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = came.try_send(());
            serve(stream.unwrap());
        }
    });
    (port, comers)
}

fn served(sink: &Sink) -> Vec<&Sighting> {
    sink.sightings.iter().filter(|sighting| !sighting.gone).collect()
}

fn shown(sink: &Sink) -> &keyvigil_common::key::Served {
    let all = served(sink);
    assert_eq!(all.len(), 1, "{all:#?} {:?}", sink.blind);
    all[0].place.served.as_deref().unwrap()
}

fn value(sink: &Sink, metric: &str, tag: (&str, &str)) -> Option<f64> {
    let of =
        |sample: &&keyvigil_common::sample::Sample| sample.series.metric_id == metric && (tag.0.is_empty() || sample.series.tags.get(tag.0) == Some(tag.1));
    sink.samples.iter().find(of).map(|sample| sample.value)
}

#[test]
fn what_a_port_serves_is_told_with_its_process_and_the_file_it_comes_from() {
    let port = free_port();
    let mut host = Host::new(&[port]);
    host.shop.certificate("a.pem", "a.key", "a.example.org", 30);
    host.keystore(&["a.pem", "a.key"]);
    let server = s_server(&host.shop, port, "-cert a.pem -key a.key");
    let sink = host.look();
    let told = served(&sink)[0];
    assert_eq!((told.facts.id.clone(), told.place.path.clone()), (host.id("a.pem"), format!("tls://127.0.0.1:{port}")));
    assert_eq!((told.place.role, told.place.format.as_deref()), (keyvigil_common::key::Role::Served, Some("tls")));
    let what = shown(&sink);
    assert_eq!((what.protocol.as_deref(), what.cipher.as_deref()), (Some("TLSv1.3"), Some("TLS_AES_256_GCM_SHA384")));
    assert_eq!((what.pid, what.chain_fault.as_deref(), what.file_key.as_deref()), (Some(server.0.id()), None, None));
    assert!(what.exe.as_ref().unwrap().ends_with("/openssl") && what.user.is_some());
    assert_eq!(what.file.as_deref(), host.shop.path("a.pem").to_str());
    assert_eq!(value(&sink, "crypto.served.up", ("", "")), Some(1.0));
    assert_eq!(value(&sink, "crypto.served.not_after_timestamp_seconds", ("", "")).map(|end| end as i64 * 1_000), told.facts.not_after_ms);
    assert!(host.look().sightings.is_empty(), "told once");
    drop(server);
    assert!(host.look().sightings.is_empty(), "it may be restarted");
    let gone = host.look();
    assert!(gone.sightings.len() == 1 && gone.sightings[0].gone && gone.events.is_empty());
}

#[test]
fn a_renewal_that_is_not_loaded_is_told_once_and_once_more_when_it_is() {
    let port = free_port();
    let mut host = Host::new(&[port]);
    let make = |host: &Host, days| drop(host.shop.certificate("a.pem", "a.key", "a.example.org", days));
    make(&host, 30);
    host.keystore(&["a.pem", "a.key"]);
    let (old, key) = (host.id("a.pem"), host.shop.spki_sha256("-in a.key"));
    let server = s_server(&host.shop, port, "-cert a.pem -key a.key");
    assert!(host.look().events.is_empty());
    make(&host, 60);
    host.keystore(&["a.pem", "a.key"]);
    let first = host.look();
    assert!(first.events.is_empty() && first.sightings.is_empty(), "it may be about to be reloaded");
    let sink = host.look();
    assert_eq!(sink.events.len(), 1);
    let event = &sink.events[0];
    let actor = event.actor.as_ref().unwrap();
    assert_eq!((event.kind, actor.pid, event.path.as_deref()), (EventKind::ServedStale, Some(server.0.id()), host.shop.path("a.pem").to_str()));
    let evidence: BTreeMap<&str, &str> = event.evidence.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((evidence["served_key"], evidence["file_key"]), (old.as_str(), host.id("a.pem").as_str()));
    assert_eq!((evidence["served_fingerprint"], evidence["file_fingerprint"]), (key.as_str(), host.shop.spki_sha256("-in a.key").as_str()));
    assert_eq!(shown(&sink).file_key, Some(host.id("a.pem")));
    assert_eq!(value(&sink, "crypto.served.stale", ("", "")), Some(1.0));
    assert!(host.look().events.is_empty(), "once");

    // The agent is started anew, and remembers what it said.
    let mut remembered = BTreeMap::new();
    let mut again = Host::with(std::mem::replace(&mut host.shop, Workshop::new()), &[port], host.known.clone());
    for sink in [first, sink] {
        remembered.extend(sink.remember.into_iter().filter_map(|(key, value)| Some((key, value?))));
    }
    again.sensor.restore(remembered.into_iter().collect());
    again.now = host.now;
    let sink = again.look();
    assert!(sink.events.is_empty() && again.look().events.is_empty());
    assert_eq!(shown(&sink).file_key, Some(again.id("a.pem")));

    drop(server);
    let server = s_server(&again.shop, port, "-cert a.pem -key a.key");
    let sink = again.look();
    assert_eq!(sink.events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::ServedFresh]);
    assert_eq!(value(&sink, "crypto.served.stale", ("", "")), Some(0.0));
    let (gone, new) = (&sink.sightings[0], &sink.sightings[1]);
    assert!(gone.gone && gone.facts.id == old && new.replaces == Some(old));
    make(&again, 90);
    again.keystore(&["a.pem", "a.key"]);
    assert!(again.look().events.is_empty());
    let events = again.look().events;
    assert_eq!(events.len(), 1, "the next renewal is another");
    let remedy = format!("have process {} load it: reload it in its own way, or restart it", server.0.id());
    assert!(events[0].message.ends_with(&remedy) && !events[0].message.contains("HUP"), "{}", events[0].message);
    let who = format!("openssl (pid {}) on 127.0.0.1:{port}", server.0.id());
    drop(server);
    let events: Vec<Event> = (0..3).flat_map(|_| again.look().events).collect();
    assert_eq!(events.iter().map(|event| event.message.clone()).collect::<Vec<_>>(), [format!("{who}: nobody listens there any more")]);
    assert_eq!(events[0].actor.as_ref().map(|actor| actor.uid), Some(None), "and not root");
}

#[test]
fn a_file_that_nobody_looks_at_any_more_does_not_make_what_is_served_fresh() {
    let port = free_port();
    let mut host = Host::new(&[port]);
    let make = |host: &Host, days| drop(host.shop.certificate("a.pem", "a.key", "a.example.org", days));
    make(&host, 30);
    host.keystore(&["a.pem", "a.key"]);
    let _server = s_server(&host.shop, port, "-cert a.pem -key a.key");
    let mut told = vec![host.look()];
    make(&host, 60);
    host.keystore(&["a.pem", "a.key"]);
    told.extend([host.look(), host.look()]);
    assert_eq!(told[2].events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::ServedStale]);

    // The agent is started anew with other paths to look at.
    let mut again = Host::with(std::mem::replace(&mut host.shop, Workshop::new()), &[port], KnownKeys::default());
    again.keystore(&[]);
    let remembered: BTreeMap<String, Vec<u8>> = told.into_iter().flat_map(|sink| sink.remember).filter_map(|(key, value)| Some((key, value?))).collect();
    again.sensor.restore(remembered.into_iter().collect());
    again.now = host.now;
    for _ in 0..3 {
        let sink = again.look();
        assert!(sink.events.is_empty(), "{:?}", sink.events);
        assert_eq!(value(&sink, "crypto.served.stale", ("", "")), Some(1.0));
    }
}

#[test]
fn names_that_get_another_certificate_are_places_of_their_own() {
    let port = free_port();
    let mut host = Host::new(&[port]);
    for name in ["a", "b", "c"] {
        host.shop.certificate(&format!("{name}.pem"), &format!("{name}.key"), &format!("{name}.example.org"), 30);
    }
    host.keystore(&["a.pem", "a.key", "b.pem", "b.key", "c.pem"]);
    let _server = s_server(&host.shop, port, "-cert a.pem -key a.key -servername b.example.org -cert2 b.pem -key2 b.key");
    let sink = host.look();
    let told: Vec<(&str, &str)> = served(&sink).iter().map(|s| (s.place.path.as_str(), s.facts.id.as_str())).collect();
    let (a, b) = (host.id("a.pem"), host.id("b.pem"));
    assert_eq!(told, [(format!("tls://127.0.0.1:{port}").as_str(), a.as_str()), (format!("tls://127.0.0.1:{port}/b.example.org").as_str(), b.as_str())]);
    assert_eq!(value(&sink, "crypto.served.connections_total", ("", "")), Some(5.0), "three names, none, and whether there is one of RSA");
    assert_eq!(value(&host.look(), "crypto.served.connections_total", ("", "")), Some(8.0));
    assert_eq!(value(&host.look(), "crypto.served.connections_total", ("", "")), Some(10.0), "from then on only those that matter");
}

#[test]
fn a_server_with_two_kinds_of_keys_for_one_name_is_seen_to_have_both() {
    for version in ["-tls1_3", "-tls1_2"] {
        let port = free_port();
        let mut host = Host::new(&[port]);
        host.shop.certificate("ec.pem", "ec.key", "www.example.org", 30);
        host.shop.openssl("req -x509 -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.pem -subj /CN=www.example.org -days 30");
        host.keystore(&["ec.pem", "ec.key", "rsa.pem", "rsa.key"]);
        let _server = s_server(&host.shop, port, &format!("{version} -cert ec.pem -key ec.key -dcert rsa.pem -dkey rsa.key"));
        let sink = host.look();
        let told: Vec<(&str, &str)> = served(&sink).iter().map(|s| (s.place.path.as_str(), s.facts.id.as_str())).collect();
        let (ec, rsa, at) = (host.id("ec.pem"), host.id("rsa.pem"), format!("tls://127.0.0.1:{port}"));
        assert_eq!(told, [(at.as_str(), ec.as_str()), (format!("{at}/#rsa").as_str(), rsa.as_str())], "{version}");
        assert!(host.look().sightings.is_empty());
    }
}

#[test]
fn old_versions_old_ciphers_and_servers_that_want_a_client_certificate_are_seen() {
    for (arguments, protocol, cipher) in [
        ("-tls1_2", "TLSv1.2", None),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", "TLSv1.2", Some("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA")),
        ("-tls1 -cipher ALL:@SECLEVEL=0", "TLSv1.0", None),
        ("-tls1_1 -cipher ALL:@SECLEVEL=0", "TLSv1.1", None),
        ("-tls1_3 -Verify 3", "TLSv1.3", None),
        ("-tls1_2 -Verify 3", "TLSv1.2", None),
        ("-tls1_3 -groups P-521", "TLSv1.3", None),
    ] {
        let port = free_port();
        let mut host = Host::new(&[port]);
        host.shop.certificate("a.pem", "a.key", "a.example.org", 30);
        let _server = s_server(&host.shop, port, &format!("-cert a.pem -key a.key {arguments}"));
        let sink = host.look();
        if arguments.contains("P-521") {
            // No group in common: it is said, and not taken for a port without TLS.
            assert!(sink.blind.iter().any(|(what, why)| what.starts_with("tls://") && why.contains("handshake_failure")), "{:?}", sink.blind);
            continue;
        }
        assert_eq!(shown(&sink).protocol.as_deref(), Some(protocol), "{arguments}");
        assert!(cipher.is_none_or(|cipher| shown(&sink).cipher.as_deref() == Some(cipher)), "{arguments}: {:?}", shown(&sink));
        assert_eq!(served(&sink)[0].facts.id, host.id("a.pem"));
    }
}

#[test]
fn a_port_without_tls_is_asked_once_whatever_it_says() {
    let (silent, silent_comers) = server(|stream| {
        // Held open until the other side goes.
        std::thread::spawn(move || stream.take(1 << 20).read_to_end(&mut Vec::new()));
    });
    let (endless, endless_comers) = server(|mut stream| while stream.write_all(&[b'x'; 4_096]).is_ok() {});
    let (records, records_comers) = server(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        // Records of TLS without an end.
        while stream.write_all(&[22, 3, 3, 0, 4, 12, 0, 0, 0]).is_ok() {}
    });
    let (web, web_comers) = server(|mut stream| {
        let _ = stream.read(&mut [0; 2_048]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let mut host = Host::new(&[silent, endless, records, web]);
    let sink = host.look();
    assert!(sink.sightings.is_empty() && sink.events.is_empty());
    assert_eq!(value(&sink, "crypto.served.ports", ("speaks", "plain")), Some(2.0), "{:?}", sink.blind);
    // Who says nothing may well speak TLS.
    assert_eq!(value(&sink, "crypto.served.ports", ("speaks", "unknown")), Some(1.0), "{:?}", host.sensor.ports);
    let doubt = sink.blind.iter().find(|(what, _)| what == "whether some listening ports speak TLS").map(|(_, why)| why.clone());
    assert!(doubt.is_some_and(|why| why.starts_with(&format!("1 said nothing that tells: 127.0.0.1:{silent} does not answer;"))), "{:?}", sink.blind);
    let count = |comers: &Receiver<()>| comers.try_iter().count();
    let first = [&silent_comers, &endless_comers, &web_comers].map(count);
    assert_eq!(first, [1, 1, 1]);
    assert!(count(&records_comers) <= 2);
    // Another agent remembers it.
    let mut again = Host::new(&[silent, endless, records, web]);
    again.sensor.restore(sink.remember.into_iter().filter_map(|(key, value)| Some((key, value?))).collect());
    host.look();
    again.look();
    assert_eq!([&silent_comers, &endless_comers, &web_comers].map(count), [0, 0, 0], "not poked again");
    host.now.wall_ms += 24 * 3_600_000;
    host.look();
    assert_eq!(count(&web_comers), 1, "but the next day");
    host.now.wall_ms += 3_600_000;
    host.look();
    assert_eq!([&silent_comers, &web_comers].map(count), [2, 0], "one that said nothing, each hour");
}

#[test]
fn a_revoked_certificate_that_its_server_staples_is_revoked() {
    let port = free_port();
    let mut host = Host::new(&[port]);
    let shop = &host.shop;
    shop.certificate("ca.pem", "ca.key", "ca", 30);
    shop.ec_key("a.key");
    shop.openssl("req -new -key a.key -subj /CN=a.example.org -out a.csr");
    shop.openssl("x509 -req -in a.csr -CA ca.pem -CAkey ca.key -set_serial 0x1a2b3c -days 9 -out a.pem");
    shop.write("index.txt", "R\t301231235959Z\t260131120000Z,keyCompromise\t1A2B3C\tunknown\t/CN=a\n");
    shop.openssl("ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert a.pem -ndays 3 -respout a.ocsp");
    for version in ["-tls1_3", "-tls1_2"] {
        let _server = s_server(&host.shop, port, &format!("{version} -cert a.pem -key a.key -CAfile ca.pem -status_file a.ocsp"));
        let sink = host.look();
        let told = served(&sink).into_iter().find(|s| s.facts.revoked_ms.is_some()).unwrap_or_else(|| panic!("{version}: {:#?}", sink.sightings));
        assert_eq!(told.facts.revoked_ms, Some(1_769_860_800_000));
        assert_eq!(told.facts.revocation.as_deref(), Some(format!("OCSP staple at tls://127.0.0.1:{port}: keyCompromise").as_str()));
        assert_eq!(told.place.served.as_ref().unwrap().staple.as_ref().unwrap().status, "revoked");
    }
    assert!(host.id("a.pem").len() == 64);
}

#[test]
fn tls_that_begins_by_agreement_is_agreed_on() {
    let shop = Workshop::new();
    shop.certificate("a.pem", "a.key", "a.example.org", 30);
    let acceptor = acceptor(&shop);
    type Talk = &'static [(&'static str, &'static str)];
    // What the server says, and what it must hear before that.
    let talks: [(&str, Talk); 6] = [
        ("smtp", &[("", "220-mail\r\n220 mail ESMTP\r\n"), ("EHLO localhost\r\n", "250-mail\r\n250-STARTTLS\r\n250 HELP\r\n"), ("STARTTLS\r\n", "220 go\r\n")]),
        ("imap", &[("", "* OK hello\r\n"), ("a STARTTLS\r\n", "* NOTE\r\na OK begin\r\n")]),
        ("pop3", &[("", "+OK hello\r\n"), ("STLS\r\n", "+OK begin\r\n")]),
        ("ftp", &[("", "220 ready\r\n"), ("EHLO localhost\r\n", "500 what\r\n"), ("AUTH TLS\r\n", "234 begin\r\n")]),
        ("nntp", &[("", "200 news\r\n"), ("STARTTLS\r\n", "382 begin\r\n")]),
        ("sieve", &[("", "\"IMPLEMENTATION\" \"x\"\r\nOK\r\n"), ("STARTTLS\r\n", "OK\r\n")]),
    ];
    for (name, talk) in talks {
        let config = Arc::clone(&acceptor);
        let (port, comers) = server(move |mut stream| {
            for (hear, say) in talk {
                let mut heard = vec![0; hear.len()];
                if stream.read_exact(&mut heard).is_err() || heard != hear.as_bytes() || stream.write_all(say.as_bytes()).is_err() {
                    return;
                }
            }
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let _ = tls.complete_io(&mut stream);
        });
        let mut host = Host::new(&[port]);
        let sink = host.look();
        assert_eq!(served(&sink).len(), 1, "{name}: {:?} {:?}", sink.blind, host.sensor.ports);
        host.look();
        assert_eq!(comers.try_iter().count(), 3, "{name}: one connection a look, and one to see whether there is a certificate of RSA");
    }
}

fn acceptor(shop: &Workshop) -> Arc<rustls::ServerConfig> {
    use rustls_pki_types::pem::PemObject;
    let chain = rustls_pki_types::CertificateDer::pem_file_iter(shop.path("a.pem")).unwrap().map(Result::unwrap).collect();
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(shop.path("a.key")).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(keyvigil_common::tls::provider()).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

#[test]
fn a_server_that_goes_silent_is_not_taken_for_one_that_serves_nothing() {
    let shop = Workshop::new();
    shop.certificate("a.pem", "a.key", "a.example.org", 30);
    let config = acceptor(&shop);
    let hangs = Arc::new(AtomicBool::new(false));
    let hung = Arc::clone(&hangs);
    let held = std::sync::Mutex::new(Vec::new());
    let (port, _comers) = server(move |mut stream| {
        if hung.load(Ordering::Acquire) {
            held.lock().unwrap().push(stream);
            return;
        }
        let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let _ = tls.complete_io(&mut stream);
    });
    let mut host = Host::new(&[port]);
    assert_eq!(served(&host.look()).len(), 1);
    hangs.store(true, Ordering::Release);
    let sink = host.look();
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    assert!(sink.sightings.is_empty(), "it is not gone");
    assert!(sink.blind.iter().any(|(what, why)| *what == format!("tls://{address}") && why == "does not answer"), "{:?}", sink.blind);
    assert_eq!(value(&sink, "crypto.served.up", ("", "")), Some(0.0));
    assert_eq!(value(&sink, "crypto.served.errors_total", ("reason", "silent")), Some(1.0));
    hangs.store(false, Ordering::Release);
    let sink = host.look();
    assert!(sink.blind.is_empty() && sink.sightings.is_empty());
    assert_eq!(value(&sink, "crypto.served.up", ("", "")), Some(1.0));
}

#[test]
fn what_is_served_waits_for_the_first_word_of_what_lies_on_the_host() {
    let port = free_port();
    let mut host = Host::with(Workshop::new(), &[port], KnownKeys::default());
    host.shop.certificate("a.pem", "a.key", "a.example.org", 30);
    let _server = s_server(&host.shop, port, "-cert a.pem -key a.key");
    assert!(host.look().sightings.is_empty());
    host.keystore(&["a.pem"]);
    assert!(shown(&host.look()).file.is_some());
    let mut alone = Host::with(host.shop, &[port], KnownKeys::default());
    let looks: Vec<usize> = (0..7).map(|_| alone.look().sightings.len()).collect();
    assert_eq!(looks, [0, 0, 0, 0, 0, 1, 0], "where the keystore sensor is off it is told without");
}

#[test]
fn a_server_that_is_reloaded_before_the_file_is_looked_at_keeps_its_file() {
    let port = free_port();
    let mut host = Host::new(&[port]);
    host.shop.certificate("a.pem", "a.key", "a.example.org", 30);
    host.keystore(&["a.pem", "a.key"]);
    let server = s_server(&host.shop, port, "-cert a.pem -key a.key");
    host.look();
    drop(server);
    host.shop.certificate("a.pem", "a.key", "a.example.org", 60);
    let _server = s_server(&host.shop, port, "-cert a.pem -key a.key");
    let sink = host.look();
    assert_eq!(served(&sink)[0].place.served.as_ref().unwrap().file.as_deref(), host.shop.path("a.pem").to_str());
    host.keystore(&["a.pem", "a.key"]);
    let sink = host.look();
    assert!(sink.events.is_empty() && sink.sightings.is_empty());
    host.keystore(&[]);
    host.look();
    assert_eq!(served(&host.look())[0].place.served.as_ref().unwrap().file, None, "it lies nowhere any more");
}
