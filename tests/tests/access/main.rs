//! Promise: each open of a private key is told with who did it, however short-lived he is and whichever way he took, and each that was
//! denied; none is missed while files are replaced, none is lost or told twice while the agent restarts, and what is not seen is said.

mod audit;
mod container;

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keyvigil_agent::collect::COLLECTORS;
use keyvigil_agent::config::Config;
use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::run::{self, Running};
use keyvigil_common::client::{Client, Query};
use keyvigil_common::clock::SystemClock;
use keyvigil_common::process::EXIT_PERMISSION;
use keyvigil_common::stop::Stop;
use keyvigil_tests::harness::events;
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::tool;
use keyvigil_tests::probe::Probe;
use serde_json::Value;

const SENSORS: [&str; 4] = ["keystore", "access", "operations", "own"];
const NOBODY: u64 = 65_534;

/// What runs, and a directory of keys.
struct Scene {
    harness: Harness,
    client: Client,
    config: Config,
    agent: Option<Running>,
    keys: PathBuf,
    /// A program that opens a file and ends, without a library.
    opens: PathBuf,
    probe: Probe,
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode");
}

fn key(path: &Path) {
    tool(Path::new("/"), &format!("openssl genpkey -algorithm ED25519 -out {}", path.display()));
}

impl Scene {
    /// Starts all on a directory with `a.key`; `None` where the kernel does not let this user.
    async fn start(args: &[&str]) -> Option<Self> {
        let harness = Harness::start().await;
        let (keys, bin) = (harness.dir("keys"), harness.dir("bin"));
        for dir in [keys.parent().expect("a parent"), &keys, &bin] {
            set_mode(dir, 0o755);
        }
        key(&keys.join("a.key"));
        let opens = bin.join("opens");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/access/opens.c");
        tool(&bin, &format!("cc -O1 -static -o {} {}", opens.display(), source.display()));
        std::fs::copy("/bin/cat", bin.join("reader")).expect("a copy");
        let socket = harness.dir("run").join("probe.sock");
        let probe = Probe::start(&socket, args)?;
        let mut config = harness.agent_config("agent", &RootFs::host());
        config.keystore.paths = [&keys, &keys.join("current/app.key")].map(|path| path.to_string_lossy().into_owned()).to_vec();
        config.sampling.disabled = COLLECTORS.iter().map(|row| row.name.to_owned()).filter(|name| !SENSORS.contains(&name.as_str())).collect();
        config.access.socket = socket;
        let agent = Some(harness.agent(&config, Dialer::tcp()).await);
        let scene = Self { client: harness.client(), harness, config, agent, keys, opens, probe };
        scene.followed(&scene.keys.join("a.key")).await;
        Some(scene)
    }

    /// Has `tail` read the file until the helper, which knows who it was, tells that. How long it took.
    async fn followed(&self, file: &Path) -> Duration {
        let clock = SystemClock::shared();
        let begun = clock.monotonic();
        until("that a file is followed", || async {
            tool(&self.keys, &format!("tail -c 1 {}", file.display()));
            let is_told = |event: &Value| event["path"].as_str() == file.to_str() && event["actor"]["pid"].is_number();
            self.events("accessed").await.iter().any(is_told).then_some(())
        })
        .await;
        clock.monotonic() - begun
    }

    async fn stop(&mut self) {
        self.agent.take().expect("it runs").stop().await.expect("a clean end");
    }

    fn run(&self, args: &[&str]) {
        let status = Command::new(&self.opens).args(args).current_dir(&self.keys).status().expect("it runs");
        assert_eq!(status.code(), Some(0), "{args:?}");
    }

    fn shell(&self, script: &str) {
        let status = Command::new("sh").args(["-ec", script]).current_dir(&self.keys).status().expect("it runs");
        assert!(status.success(), "{script}");
    }

    /// Opens that were counted, by programs whose path ends so.
    async fn count(&self, exe: &str) -> u64 {
        let query = Query { metric_pattern: "crypto.key.access_count".into(), start_time: Some("-1h".into()), limit: Some(10_000), ..Query::default() };
        let answer = self.client.query_metrics(&query).await.expect("an answer");
        let of_exe = answer.series.iter().filter(|series| series.tags.get("exe").is_some_and(|tag| tag.ends_with(exe)));
        of_exe.map(|series| series.points.last().and_then(|(_, value)| value.as_f64()).unwrap_or_default() as u64).sum()
    }

    async fn counted(&self, exe: &str, wanted: u64) {
        let mut last = 0;
        let seen = async {
            loop {
                last = self.count(exe).await;
                if last >= wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(keyvigil_tests::harness::PATIENCE, seen).await;
        if last != wanted {
            let told = [self.events("data_lost").await, self.events("coverage_lost").await].concat();
            let messages: Vec<&str> = told.iter().filter_map(|event| event["message"].as_str()).collect();
            let events = self.events_by(exe).await.len();
            panic!("opens by {exe}: {last} counted, {events} told, of {wanted}; {messages:?}");
        }
    }

    async fn events(&self, kind: &str) -> Vec<Value> {
        events(&self.client, kind).await
    }

    async fn events_by(&self, exe: &str) -> Vec<Value> {
        let by = |event: &Value| event["actor"]["exe"].as_str().is_some_and(|path| path.ends_with(exe));
        self.events("accessed").await.into_iter().filter(by).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_short_readers_are_all_named() {
    let Some(mut scene) = Scene::start(&[]).await else { return };
    scene.shell("i=0; while [ $i -lt 1000 ]; do ../bin/reader a.key > /dev/null; ../bin/opens open a.key; i=$((i+1)); done");
    scene.counted("bin/reader", 1_000).await;
    scene.counted("bin/opens", 1_000).await;
    for exe in ["bin/reader", "bin/opens"] {
        let events = scene.events_by(exe).await;
        let pids: BTreeSet<u64> = events.iter().filter_map(|event| event["actor"]["pid"].as_u64()).collect();
        assert_eq!((events.len(), pids.len()), (1_000, 1_000), "{exe}");
        assert!(events.iter().all(|event| event["actor"]["uid"] == 0 && event["path"].as_str() == scene.keys.join("a.key").to_str()));
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_open_a_key_is_seen_and_looking_at_it_is_none() {
    let Some(mut scene) = Scene::start(&[]).await else { return };
    let at = |name: &str| scene.keys.join(name).to_string_lossy().into_owned();
    let outside = scene.harness.dir("outside");
    set_mode(&outside, 0o755);
    symlink(scene.keys.join("a.key"), outside.join("link")).expect("a link");
    std::fs::hard_link(scene.keys.join("a.key"), outside.join("hard")).expect("a link");
    let dir = outside.to_string_lossy().into_owned();
    let keys = scene.keys.to_string_lossy().into_owned();
    let mut wanted = 0;
    let ways: [&[&str]; 14] = [
        &["open", "a.key"],
        &["open", &format!("{dir}/../keys/./a.key")],
        &["open", &format!("{dir}/link")],
        &["open", &format!("{dir}/hard")],
        &["openat", "a.key", &keys],
        &["openat2", "a.key"],
        &["uring", "a.key", "descriptor"],
        &["uring", "a.key", "table"],
        &["uring", &format!("{dir}/link"), "table"],
        &["uring", "a.key", "silent"],
        &["handle", &at("a.key")],
        &["narrow", "a.key", "open"],
        &["narrow", "a.key", "openat"],
        &["narrow", "a.key", "openat2"],
    ];
    for way in ways {
        let code = Command::new(&scene.opens).args(way).current_dir(&scene.keys).status().expect("it runs").code();
        if code == Some(EXIT_PERMISSION.into()) {
            eprintln!("not tried, as the kernel offers it not: {way:?}");
            continue;
        }
        assert_eq!(code, Some(0), "{way:?}");
        wanted += 1;
        scene.counted("bin/opens", wanted).await;
    }
    // Other mount namespaces, where the path is another, or the file is one of an overlay.
    let opens = scene.opens.display();
    let scripts = [
        format!("mount --bind {keys} {dir}/bind; {opens} open {dir}/bind/a.key"),
        format!("mount -t overlay overlay -o lowerdir={keys},upperdir={dir}/up,workdir={dir}/work {dir}/bind; {opens} open {dir}/bind/a.key"),
        format!("mount -t overlay overlay -o lowerdir={dir}/up,upperdir={keys},workdir={dir}/work2 {dir}/bind; {opens} open {dir}/bind/a.key"),
        // An overlay upon an overlay, as containers within containers have them.
        format!(
            "mount -t overlay overlay -o lowerdir={keys}:{dir}/up {dir}/bind; mount -t overlay overlay -o lowerdir={dir}/bind:{dir}/work {dir}/upon; \
             {opens} open {dir}/upon/a.key"
        ),
    ];
    scene.shell(&format!("mkdir {dir}/bind {dir}/up {dir}/work {dir}/work2 {dir}/upon"));
    for script in scripts {
        // The work directory has to lie beside the upper one; a machine may not let us mount.
        let status = Command::new("unshare").args(["-m", "sh", "-ec", &script]).stderr(Stdio::null()).status().expect("it runs");
        if status.success() {
            wanted += 1;
            scene.counted("bin/opens", wanted).await;
        } else {
            eprintln!("not tried: {script}");
        }
    }
    scene.run(&["path", "a.key"]);
    scene.run(&["stat", "a.key"]);
    scene.run(&["open", "a.key"]);
    scene.counted("bin/opens", wanted + 1).await;
    scene.run(&["creat", "a.key"]);
    scene.counted("bin/opens", wanted + 2).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_denied_is_named_whatever_path_he_asked_for() {
    let Some(mut scene) = Scene::start(&[]).await else { return };
    let outside = scene.harness.dir("outside");
    set_mode(&outside, 0o755);
    symlink(scene.keys.join("a.key"), outside.join("a.key")).expect("a link");
    std::fs::create_dir(scene.keys.join("sub")).expect("a directory");
    symlink(scene.keys.join("sub"), outside.join("sub")).expect("a link");
    let nobody = format!("! setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    let (opens, keys, dir) = (scene.opens.display(), scene.keys.display(), outside.display());
    let ways = [
        format!("{nobody} cat a.key"),
        format!("{nobody} cat {keys}/a.key"),
        format!("cd {dir}; {nobody} cat ../keys/../keys/./a.key"),
        format!("{nobody} cat {dir}/a.key"),
        format!("{nobody} cat {dir}/sub/../a.key"),
        format!("cd /; {nobody} cat .{keys}/a.key"),
        format!("{nobody} {opens} openat a.key {keys}"),
        format!("{nobody} {opens} openat2 a.key"),
        format!("{nobody} {opens} uring a.key descriptor"),
        format!("{nobody} {opens} uring {keys}/a.key table"),
        // As far as a path is kept, and a name in it is not more than one may be.
        format!("{nobody} cat {}{keys}/a.key", "/.".repeat(180)),
    ];
    for (at, way) in ways.iter().enumerate() {
        scene.shell(&format!("({way}) 2> /dev/null"));
        let told = until(way, || async { Some(scene.events("denied").await).filter(|events| events.len() > at) }).await;
        assert_eq!(told.len(), at + 1, "{way}");
        assert_eq!((&told[0]["actor"]["uid"], told[0]["path"].as_str()), (&Value::from(NOBODY), scene.keys.join("a.key").to_str()), "{way}");
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_is_missed_while_keys_are_replaced() {
    let Some(mut scene) = Scene::start(&[]).await else { return };
    let volume = scene.keys.join("volume");
    let turn = |n: u32| {
        let dir = volume.join(format!("..turn{n}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        key(&dir.join("tls.key"));
        let next = volume.join("..next");
        symlink(format!("..turn{n}"), &next).expect("a link");
        std::fs::rename(next, volume.join("..data")).expect("the swap");
    };
    turn(0);
    symlink("..data/tls.key", volume.join("tls.key")).expect("a link");
    // Also a link that nobody's convention tells.
    let release = |n: u32| {
        let dir = scene.keys.join(format!("release{n}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        key(&dir.join("app.key"));
        let next = scene.keys.join("next");
        symlink(format!("release{n}"), &next).expect("a link");
        std::fs::rename(next, scene.keys.join("current")).expect("the swap");
    };
    release(0);
    scene.followed(&volume.join("tls.key")).await;
    until("the link is followed", || async {
        scene.shell("tail -c 1 current/app.key > /dev/null");
        let events = scene.events("accessed").await;
        events.iter().any(|event| event["path"].as_str().is_some_and(|path| path.ends_with("app.key"))).then_some(())
    })
    .await;
    let times = "3000";
    let files = [scene.keys.join("a.key"), volume.join("tls.key"), scene.keys.join("current/app.key")];
    let copies = ["file", "volume", "link"].map(|name| scene.opens.with_file_name(name));
    for copy in &copies {
        std::fs::copy(&scene.opens, copy).expect("a copy");
    }
    let readers = copies.iter().zip(&files);
    let mut readers: Vec<_> = readers.map(|(opens, file)| Command::new(opens).args(["loop"]).arg(file).arg(times).spawn().expect("it runs")).collect();
    for n in 1..40 {
        let next = scene.keys.join("a.next");
        key(&next);
        std::fs::rename(next, &files[0]).expect("renamed");
        turn(n);
        release(n);
    }
    assert!(readers.iter_mut().all(|reader| reader.wait().expect("its end").success()), "the swaps are whole");
    for name in ["file", "volume", "link"] {
        scene.counted(&format!("bin/{name}"), 3_000).await;
    }
    assert_eq!(scene.events("data_lost").await, Vec::<Value>::new());

    let late = scene.harness.dir("late");
    key(&late.join("new.key"));
    std::fs::rename(late.join("new.key"), scene.keys.join("new.key")).expect("renamed");
    let gap = scene.followed(&scene.keys.join("new.key")).await;
    eprintln!("a key of a new name is followed, and its reader told, after {} ms", gap.as_millis());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_told_twice_when_the_agent_restarts_and_the_loss_of_a_helper_is_told() {
    let Some(mut scene) = Scene::start(&[]).await else { return };
    let fifty = "i=0; while [ $i -lt 50 ]; do ../bin/opens open a.key; i=$((i+1)); done";
    let mut done = 0;
    for _ in 0..3 {
        scene.shell(fifty);
        // In the midst of its work.
        scene.stop().await;
        scene.shell(fifty);
        scene.agent = Some(run::start(&scene.config, SystemClock::shared(), Dialer::tcp(), &Stop::new()).expect("it starts again"));
        done += 100;
        let told = until("what happened meanwhile", || async { Some(scene.events_by("bin/opens").await).filter(|told| told.len() >= done) }).await;
        let pids: BTreeSet<u64> = told.iter().filter_map(|event| event["actor"]["pid"].as_u64()).collect();
        assert_eq!((told.len(), pids.len()), (done, done), "each once");
    }
    assert_eq!(scene.events("data_lost").await, Vec::<Value>::new());
    scene.probe = scene.probe.killed_and_started();
    let lost = until("the time that nobody saw", || async { scene.events("data_lost").await.pop() }).await;
    let evidence = |name: &str| lost["evidence"].as_array()?.iter().find(|row| row[0] == name || row["name"] == name).map(Value::to_string);
    assert!(evidence("from_ms").is_some() && evidence("until_ms").is_some() || lost["evidence"]["from_ms"].is_string(), "{lost}");
    let before = scene.events_by("bin/opens").await.len();
    until("it sees again", || async {
        scene.run(&["open", "a.key"]);
        (scene.events_by("bin/opens").await.len() > before).then_some(())
    })
    .await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_programs_in_the_kernel_opens_are_told_at_least_and_that_is_said() {
    let Some(mut scene) = Scene::start(&["--no-programs"]).await else { return };
    // One that lives on is named.
    let mut reader = Command::new("tail").args(["-f", "a.key"]).current_dir(&scene.keys).stdout(Stdio::null()).spawn().expect("it runs");
    let pid = u64::from(reader.id());
    let told = until("who reads", || async { scene.events_by("/tail").await.into_iter().find(|event| event["actor"]["pid"] == pid) }).await;
    assert_eq!((&told["actor"]["uid"], told["path"].as_str()), (&Value::from(0), scene.keys.join("a.key").to_str()));
    let _ = (reader.kill(), reader.wait());
    let next = scene.keys.join("a.next");
    key(&next);
    std::fs::rename(next, scene.keys.join("a.key")).expect("renamed");
    let mut reader = Command::new("tail").args(["-f", "a.key"]).current_dir(&scene.keys).stdout(Stdio::null()).spawn().expect("it runs");
    let pid = u64::from(reader.id());
    until("who reads what replaced it", || async { scene.events_by("/tail").await.into_iter().find(|event| event["actor"]["pid"] == pid) }).await;
    let _ = (reader.kill(), reader.wait());
    let query = Query { metric_pattern: "keyvigil.agent.blind".into(), start_time: Some("-1h".into()), limit: Some(10_000), ..Query::default() };
    let answer = scene.client.query_metrics(&query).await.expect("an answer");
    let blind = answer.series.iter().find(|series| series.tags.get("sensor").is_some_and(|tag| tag == "access"));
    assert!(blind.and_then(|series| series.points.last()?.1.as_f64()).is_some_and(|count| count >= 1.0), "its sight is not whole");
    scene.stop().await;
}
