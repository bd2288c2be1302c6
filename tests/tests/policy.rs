//! Promise: whoever opens a private key that no policy gives them is told of, with evidence, and alerts at once, not with the next turn of the
//! rules; what was seen becomes a proposal that the agent takes and that allows exactly that.

#![expect(clippy::print_stderr, reason = "what was not tried, and how long it took, for who runs it")]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keyvigil_common::client::{Client, Query};
use keyvigil_common::clock::SystemClock;
use keyvigil_common::config::Period;
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::probe::Probe;
use keyvigil_tests::process::{Agent, run};
use serde_json::Value;

const NOBODY: u32 = 65_534;

/// Reads a file with a program, as a user; its process.
fn read(program: &Path, file: &Path, uid: u32) -> u32 {
    let mut child = Command::new(program).arg(file).uid(uid).current_dir("/").stdout(Stdio::null()).spawn().expect("it starts");
    assert!(child.wait().expect("it ends").success(), "{} {}", program.display(), file.display());
    child.id()
}

/// Where a program lies, without links.
fn which(name: &str) -> PathBuf {
    let path = std::env::var("PATH").expect("a path");
    let found = path.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    std::fs::canonicalize(found.unwrap_or_else(|| panic!("{name} is not installed"))).expect("it is there")
}

struct Scene {
    harness: Harness,
    config: PathBuf,
    state: PathBuf,
    keys: PathBuf,
    agent: Agent,
    _probe: Probe,
}

impl Scene {
    /// An agent that watches `names`, with these policies; nothing where the kernel lets nobody look.
    async fn new(names: &[&str], policy: impl Fn(&Path) -> String) -> Option<Self> {
        // So seldom that whatever is told in this test is told because it happened.
        let harness = Harness::with(SystemClock::shared(), |config| config.alerts.interval = Period::seconds(86_400)).await;
        let (state, keys, config) = (harness.dir("agent"), harness.dir("keys"), harness.dir("etc").join("agent.toml"));
        for name in names {
            let file = keys.join(name);
            let args = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
            assert!(Command::new("openssl").args(args).arg(&file).status().expect("openssl").success());
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("others may read it");
        }
        // Others must get there.
        for dir in keys.ancestors().take(2) {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("its mode is set");
        }
        let socket = harness.dir("run").join("probe.sock");
        let Some(probe) = Probe::start(&socket, &[]) else {
            eprintln!("not tried: the kernel lets this user not look");
            return None;
        };
        let disabled: Vec<&str> =
            keyvigil_agent::collect::COLLECTORS.iter().map(|row| row.name).filter(|name| !["keystore", "access"].contains(name)).collect();
        let text = format!(
            "state_dir = {state:?}\n[sampling]\ndisabled = {disabled:?}\n[sampling.intervals]\nkeystore = [\"200ms\", \"200ms\"]\n[keystore]\npaths = [{keys:?}]\nnamed_files = false\n[access]\nsocket = {socket:?}\nlearn_hours = 0\n{}",
            policy(&keys)
        );
        std::fs::write(&config, text).expect("written");
        let token = harness.token().await;
        let joined = run("keyvigil-agent", &["--config", config.to_str()?, "join", &token, "--name", "web-1"], &[]);
        assert!(joined.status.success(), "{joined:?}");
        let agent = Agent::start(&config);
        Some(Self { harness, config, state, keys, agent, _probe: probe })
    }

    fn client(&self) -> Client {
        self.harness.client()
    }

    async fn events(&self, kind: &str) -> Vec<Value> {
        self.client().events(&[("kind", kind), ("limit", "1000")]).await.expect("events")["events"].as_array().cloned().unwrap_or_default()
    }

    /// The violation that this process is told of.
    async fn violation(&self, pid: u32) -> Option<Value> {
        let of_policy = |event: &Value| event["evidence"]["policy"] == "unauthorized access" && event["actor"]["pid"] == pid;
        self.events("policy_violation").await.into_iter().find(of_policy)
    }

    /// Reads a key again and again, until the helper follows it.
    async fn followed(&self, program: &Path, name: &str) {
        let key = self.keys.join(name);
        until("the key is followed", || async {
            read(program, &key, 0);
            // Of one of these reads: what the last of them did is told later than it is asked for here.
            self.events("accessed").await.into_iter().find(|event| event["path"].as_str() == key.to_str()).map(drop)
        })
        .await;
    }

    async fn alert(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until("the alert", || async {
            let alerts = self.client().alerts(&[]).await.ok()?;
            alerts["alerts"].as_array()?.iter().find(|alert| alert["rule_id"] == "unauthorized-key-access" && wanted(alert)).cloned()
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_a_key_that_is_not_theirs_alerts_at_once_and_a_proposal_of_what_was_seen_allows_it() {
    let (tac, cat, head) = (which("tac"), which("cat"), which("head"));
    let policy = |keys: &Path| format!("[[access.policy]]\npath = {:?}\nexe = [{tac:?}]\n", keys.join("*.pem"));
    let Some(scene) = Scene::new(&["a.pem"], policy).await else { return };
    let key = scene.keys.join("a.pem");
    scene.followed(&tac, "a.pem").await;

    let clock = SystemClock::shared();
    let began = clock.monotonic();
    let pid = read(&cat, &key, NOBODY);
    let alert = scene.alert(|alert| alert["state"] == "firing").await;
    eprintln!("from the open to the alert: {:?}", clock.monotonic() - began);
    assert!(clock.monotonic() - began < Duration::from_secs(30), "sooner than any turn of the rules would tell it");
    assert_eq!((alert["priority"].as_str(), alert["tags"]["host"].as_str()), (Some("critical"), Some("web-1")));
    let user = alert["tags"]["user"].as_str().expect("a user").to_owned();
    let summary = alert["summary"].as_str().expect("a sentence").to_owned();
    assert!(summary.contains(&format!("by {} as {user}", cat.display())) && summary.contains("a.pem"), "{summary}");

    let event = scene.violation(pid).await.expect("what is alerted is told");
    assert_eq!((event["actor"]["exe"].as_str(), event["actor"]["uid"].as_u64()), (cat.to_str(), Some(NOBODY.into())), "{event}");
    assert_eq!(event["path"].as_str(), key.to_str(), "{event}");
    let evidence = &event["evidence"];
    assert!(evidence["because"].as_str().is_some_and(|because| because.contains(&format!("{} is not one of {}", cat.display(), tac.display()))), "{event}");
    assert!(evidence["parent"].as_str().is_some_and(|parent| parent.contains(&format!("(pid {})", std::process::id()))), "{event}");
    assert_eq!(evidence["user"].as_str(), Some(user.as_str()), "{event}");
    let first: Vec<Value> = scene.events("first_use").await.into_iter().filter(|event| event["actor"]["pid"] == pid).collect();
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0]["evidence"]["used_before_by"].as_str().is_some_and(|by| by.contains("tac as root")), "{first:?}");
    until("it is counted", || async {
        let query = Query { metric_pattern: "crypto.key.unauthorized_access".into(), tag: vec!["result:opened".into()], ..Query::default() };
        let answer = scene.client().query_metrics(&query).await.ok()?;
        answer.series.iter().find(|series| series.tags.get("user") == Some(&user)).map(drop)
    })
    .await;

    // Somebody else: the same alert, and news.
    let again = read(&cat, &key, 0);
    let alert = scene.alert(|alert| alert["summary"].as_str().is_some_and(|summary| summary.contains("as root"))).await;
    assert_eq!(scene.client().alerts(&[]).await.expect("alerts")["alerts"].as_array().map(Vec::len), Some(1), "one alert a key");
    assert!(alert["summary"].as_str().is_some_and(|summary| summary.contains(&user)), "{alert}");
    assert!(scene.violation(again).await.is_some());
    assert_eq!(scene.events("first_use").await.iter().filter(|event| event["actor"]["pid"] == pid).count(), 1, "nobody is new twice");

    accepts_what_was_seen(&scene, &cat, &head).await;
    scene.agent.stop();
}

/// The proposal is valid, and silences what it names, and nothing else.
async fn accepts_what_was_seen(scene: &Scene, cat: &Path, head: &Path) {
    let key = scene.keys.join("a.pem");
    let written = scene.state.join("proposed.toml");
    let args = ["--config", scene.config.to_str().expect("text"), "policy", "--since", "1d", "--write", written.to_str().expect("text")];
    let proposed = run("keyvigil-agent", &args, &[]);
    assert!(proposed.status.success(), "{proposed:?}");
    let proposal = std::fs::read_to_string(&written).expect("a proposal");
    assert!(proposal.contains(&format!("{:?}", cat.display().to_string())) && proposal.contains("NOT ALLOWED"), "{proposal}");
    let before = std::fs::read_to_string(&scene.config).expect("a configuration");
    let (kept, _) = before.split_once("[[access.policy]]").expect("a policy");
    std::fs::write(&scene.config, format!("{kept}{proposal}")).expect("written");
    let checked = run("keyvigil-agent", &["--config", scene.config.to_str().expect("text"), "check-config"], &[]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && !said.contains("warning"), "{checked:?}");
    let hangup = Command::new("kill").args(["-HUP", &scene.agent.pid().to_string()]).status().expect("kill");
    assert!(hangup.success());
    until("the proposal is in force", || async {
        let allowed = read(cat, &key, NOBODY);
        // Nobody has seen this one yet: when it is told, what came before it is.
        let offence = read(head, &key, NOBODY);
        until("an offence", || scene.violation(offence)).await;
        scene.violation(allowed).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_may_ask_what_a_program_consists_of() {
    let cat = which("cat");
    let hash = keyvigil_common::hex(&keyvigil_common::sha256(&std::fs::read(&cat).expect("it is read")));
    let policy = |keys: &Path| format!("[[access.policy]]\npath = {:?}\nexe_sha256 = [\"{hash}\"]\n", keys.join("b.pem"));
    let Some(scene) = Scene::new(&["b.pem"], policy).await else { return };
    let key = scene.keys.join("b.pem");
    scene.followed(&cat, "b.pem").await;
    // The same bytes under another name, and others under the name of the first.
    let (same, other) = (scene.harness.dir("bin").join("same"), scene.harness.dir("bin").join("cat"));
    std::fs::copy(&cat, &same).expect("copied");
    std::fs::copy(which("head"), &other).expect("copied");
    let allowed = [read(&cat, &key, 0), read(&same, &key, 0)];
    let offence = read(&other, &key, 0);
    let event = until("an offence", || scene.violation(offence)).await;
    assert!(event["evidence"]["because"].as_str().is_some_and(|because| because.starts_with("the SHA-256 of the program")), "{event}");
    assert!(event["evidence"]["exe_sha256"].as_str().is_some_and(|told| told.len() == 64 && told != hash), "{event}");
    for pid in allowed {
        assert_eq!(scene.violation(pid).await, None);
    }
    scene.agent.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_around_a_policy_by_the_name_of_a_program_or_of_a_key() {
    let (tac, cat) = (which("tac"), which("cat"));
    let policy = |keys: &Path| {
        let rows = ["a.pem", "caf*.pem"].map(|name| format!("[[access.policy]]\npath = {:?}\nexe = [{tac:?}]\n", keys.join(name)));
        rows.concat()
    };
    let Some(scene) = Scene::new(&["a.pem"], policy).await else { return };
    scene.followed(&tac, "a.pem").await;
    let key = scene.keys.join("a.pem");

    // A program that lies so deep that only the end of its path is kept, which is that of the one that may.
    let deep = (0..30).fold(scene.harness.dir("deep"), |dir, _| dir.join("d")).join(tac.strip_prefix("/").expect("it is absolute"));
    std::fs::create_dir_all(deep.parent().expect("a directory")).expect("directories");
    std::fs::copy(&tac, &deep).expect("copied");
    let pid = read(&deep, &key, 0);
    let event = until("the program that lies deep", || scene.violation(pid)).await;
    let exe = event["actor"]["exe"].as_str().expect("a program");
    assert!(exe.starts_with('…') && exe.ends_with(tac.to_str().expect("text")), "{event}");

    // Another name of the same file, which no policy names.
    std::fs::hard_link(&key, scene.keys.join("0.pem")).expect("a link");
    let pid = read(&cat, &scene.keys.join("0.pem"), 0);
    until("the other name", || scene.violation(pid)).await;
    until("that both names are known", || async {
        let told = scene.events("created").await;
        told.iter().any(|event| event["path"].as_str().is_some_and(|path| path.ends_with("0.pem"))).then_some(())
    })
    .await;
    for name in ["0.pem", "a.pem"] {
        let pid = read(&cat, &scene.keys.join(name), 0);
        until("either name, now that both are known", || scene.violation(pid)).await;
    }

    // A name that is no text.
    let odd = scene.keys.join(std::ffi::OsStr::from_bytes(b"caf\xe9\n.pem"));
    let args = ["genpkey", "-algorithm", "ED25519", "-out"];
    assert!(Command::new("openssl").args(args).arg(&odd).status().expect("openssl").success());
    std::fs::set_permissions(&odd, std::fs::Permissions::from_mode(0o644)).expect("others may read it");
    until("the key whose name is no text", || async {
        read(&cat, &odd, 0);
        let told = scene.events("policy_violation").await;
        told.iter().any(|event| event["path"].as_str().is_some_and(|path| path.ends_with("caf\\xe9\\x0a.pem"))).then_some(())
    })
    .await;
    scene.agent.stop();
}
