//! Promise: no private byte leaves its file. An agent that has read private keys in every form, and opened key stores with
//! their passwords, has told of all of them; neither what it sends, nor what either daemon keeps on disk, nor its own memory
//! has a private number, a line of a key file or a password.

#[path = "secrets/needles.rs"]
mod needles;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use keyvigil_agent::collect::{AccessRules, At, COLLECTORS, Context, KeystoreConfig, KnownKeys, Link, ServedConfig, Sink, StorePassword};
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::client::Client;
use keyvigil_common::telemetry::Registry;
use keyvigil_tests::harness::until;
use keyvigil_tests::process::{Agent, Aggregator, run};

use self::needles::{Needles, PASSWORD, make_keys};

fn passwords(dir: &Path) -> Vec<StorePassword> {
    let file = dir.join("password");
    fs::write(&file, format!("{PASSWORD}\n")).expect("a file");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("its mode");
    vec![StorePassword { path: dir.join("keys").to_string_lossy().into_owned(), file }]
}

/// No needle may be found in any file of a directory; how many there are.
fn look_into(dir: &Path, needles: &Needles) -> usize {
    let look = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return look_into(&path, needles);
        }
        // Sockets are no files.
        let Ok(bytes) = fs::read(&path) else { return 0 };
        assert_eq!(needles.found_in(&bytes), Vec::<String>::new(), "{}", path.display());
        1
    };
    fs::read_dir(dir).expect("a directory").map(look).sum()
}

/// All memory of a process that it can write.
fn memory(pid: u32) -> Vec<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("its memory: tests run as root, or as the agent's user with ptrace allowed");
    let read = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        if !rest.starts_with("rw") {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        memory.read_exact_at(&mut bytes, from).ok().map(|()| bytes)
    };
    maps.lines().filter_map(read).collect()
}

/// Lets a file's last change be so long ago that the agent reads it once and not again.
async fn settled(dir: &Path) {
    let newest = || fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.metadata().ok()).map(|meta| meta.ctime()).max();
    #[expect(clippy::disallowed_methods, reason = "the file system's clock")]
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs().cast_signed());
    until("the files are some seconds old", || async { (now()? > newest()? + 4).then_some(()) }).await;
}

async fn private_keys(client: &Client) -> Option<Vec<serde_json::Value>> {
    let all = client.keys(&[("limit", "1000")]).await.ok()?["keys"].as_array()?.clone();
    let is_private = |key: &serde_json::Value| key["kind"].as_str().is_some_and(|kind| kind.contains("private"));
    Some(all.into_iter().filter(is_private).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_has_read_every_private_key_has_kept_and_told_none() {
    keyvigil_common::tls::install_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let (keys, state) = (dir.path().join("keys"), dir.path().join("agent"));
    let needles = make_keys(&keys);
    let configured = passwords(dir.path());
    settled(&keys).await;
    let aggregator = Aggregator::start(&dir.path().join("aggregator"), &[]);
    let client = aggregator.client();
    let config = dir.path().join("agent.toml");
    let store = &configured[0];
    let text = format!(
        "state_dir = {state:?}\n[keystore]\npaths = [{keys:?}]\n[[keystore.password]]\npath = {:?}\nfile = {:?}\n[sampling.intervals]\nkeystore = [\"1h\", \"1h\"]\n",
        store.path, store.file
    );
    fs::write(&config, text).expect("a file");
    let token = client.create_token(1, "5m").await.expect("a token");
    let joined = run("keyvigil-agent", &["--config", config.to_str().expect("UTF-8"), "join", token["token"].as_str().expect("text")], &[]);
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    let agent = Agent::start(&config);
    let told = until("all private keys in the inventory", || async {
        let told = private_keys(&client).await?;
        let places = |key: &serde_json::Value| key["places"].as_array().map_or(1, Vec::len);
        (told.iter().map(places).sum::<usize>() >= needles.files).then_some(told)
    })
    .await;
    let fingerprint = told[0]["fingerprint"].as_str().expect("text").to_owned();
    assert_eq!(needles.found_in(serde_json::to_string(&told).expect("JSON").as_bytes()), Vec::<String>::new(), "what the API tells");

    let regions = memory(agent.pid());
    let is_there = |needle: &[u8]| regions.iter().any(|region| region.windows(needle.len()).any(|window| window == needle));
    assert!(is_there(fingerprint.as_bytes()), "what the agent knows is found in its memory, so what is not found there is not there");
    let found: Vec<String> = regions.iter().flat_map(|region| needles.found_in(region)).collect();
    assert_eq!(found, Vec::<String>::new(), "in the agent's memory");
    assert!(look_into(&state, &needles) >= 3, "identity, key and buffer");
    agent.stop();
    look_into(&state, &needles);
    drop(aggregator);
    assert!(look_into(&dir.path().join("aggregator"), &needles) >= 5);
}

#[test]
fn what_the_sensor_says_before_it_is_sealed_has_nothing_private() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = dir.path().join("keys");
    let needles = make_keys(&keys);
    let paths = vec![keys.to_string_lossy().into_owned()];
    let keystore = KeystoreConfig { paths, password: passwords(dir.path()), named_files: false, ..KeystoreConfig::default() };
    let context = Context {
        access: AccessRules::default(),
        probe: Link::new("/nonexistent"),
        canary: keyvigil_agent::canary::Canary::none(),
        root: RootFs::host(),
        started_ms: 0,
        keystore,
        registry: Registry::default(),
        waiting: None,
        known: KnownKeys::default(),
        served: ServedConfig::default(),
    };
    let row = COLLECTORS.iter().find(|row| row.name == "keystore").expect("the sensor");
    let at = At { wall_ms: 1_763_836_800_000, monotonic: Duration::from_secs(1) };
    let mut sink = Sink::new("host", at);
    (row.make)(&context).collect(at, &mut sink);
    let private = sink.sightings.iter().filter(|sighting| sighting.facts.kind.is_private()).count();
    assert_eq!(private, needles.files, "each file's key is told");
    let of = |file: &str| sink.sightings.iter().find(|sighting| sighting.place.path.ends_with(file)).expect("it is told").facts.fingerprint.clone();
    let stored = sink.sightings.iter().filter(|sighting| sighting.facts.kind.is_private() && sighting.facts.fingerprint == of("/c.pem")).count();
    assert_eq!(stored, 7, "a file and six stores, all of which were opened: {:?}", sink.sightings);
    let mut said = format!("{sink:?}").into_bytes();
    sink.remember.iter().filter_map(|(_, value)| value.as_ref()).for_each(|value| said.extend(value));
    assert_eq!(needles.found_in(&said), Vec::<String>::new());
    assert!(needles.found_in(&fs::read(keys.join("rsa.pem")).expect("a key")).len() > 10, "what is looked for is what the files hold");
}
