//! Opens as Linux audit tells them, where the kernel takes no programs and a rule of the administrator's covers the file.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use keyvigil_tests::harness::until;
use keyvigil_tests::host::tool;
use serde_json::Value;

use super::{NOBODY, Scene};

/// A rule of Linux audit on a file, where nobody else uses audit; `None` where somebody does, or it is not to be had.
struct Audited {
    rule: Vec<String>,
}

fn auditctl(args: &[&str]) -> Option<String> {
    let output = Command::new("auditctl").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Audited {
    fn begin(file: &Path) -> Option<Self> {
        let has = |status: &str, line: &str| status.lines().any(|have| have == line);
        let status = auditctl(&["-s"]).filter(|status| has(status, "enabled 0") && has(status, "pid 0"))?;
        auditctl(&["-l"]).filter(|rules| rules.starts_with("No rules"))?;
        let rule = ["always,exit", "-F", &format!("path={}", file.display()), "-F", "perm=r", "-k", "keyvigil-test"].map(str::to_owned).to_vec();
        let audited = Self { rule };
        audited.change("-a").or_else(|| panic!("audit takes no rule: {status}"));
        auditctl(&["-e", "1"]).expect("audit begins");
        Some(audited)
    }

    fn change(&self, how: &str) -> Option<String> {
        auditctl(&[[how].as_slice(), &self.rule.iter().map(String::as_str).collect::<Vec<_>>()].concat())
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        let _ = (auditctl(&["-e", "0"]), self.change("-d"));
    }
}

impl Scene {
    /// Has a program of that name read a key so often, each time anew; what was told of that, whoever it is said to be by.
    async fn readers(&self, name: &str, times: usize) -> Vec<Value> {
        let program = self.opens.with_file_name(name);
        std::fs::copy("/bin/cat", &program).expect("a copy");
        let before = self.events("accessed").await.len();
        self.shell(&format!("i=0; while [ $i -lt {times} ]; do {} a.key > /dev/null; i=$((i+1)); done", program.display()));
        let told = until("each reader", || async { Some(self.events("accessed").await).filter(|told| told.len() >= before + times) }).await;
        told.into_iter().filter(|event| event["actor"]["exe"].as_str().is_none_or(|exe| exe.ends_with(name))).take(times).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_programs_a_rule_of_audit_names_who_is_gone_at_once_and_who_is_denied() {
    let Some(mut scene) = Scene::start(&["--no-programs"]).await else { return };
    let Some(audited) = Audited::begin(&scene.keys.join("a.key")) else {
        eprintln!("not tried: there is no audit here, or somebody uses it");
        return scene.stop().await;
    };
    // Whoever is gone at once has no name but by audit: once each of a score has one, the rule was noticed.
    for round in 0.. {
        let told = scene.readers(&format!("reader{round}"), 20).await;
        if told.iter().all(|event| event["actor"]["exe"].is_string()) {
            break;
        }
    }
    let told: Vec<Value> = scene.readers("reader", 100).await;
    let pids: BTreeSet<u64> = told.iter().filter_map(|event| event["actor"]["pid"].as_u64()).collect();
    assert_eq!((told.len(), pids.len()), (100, 100), "each once");
    scene.shell(&format!("! setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups cat a.key 2> /dev/null"));
    let denied = until("who was denied", || async { scene.events("denied").await.pop() }).await;
    assert_eq!((&denied["actor"]["uid"], denied["path"].as_str()), (&Value::from(NOBODY), scene.keys.join("a.key").to_str()));
    drop(audited);
    until("without the rule, fanotify tells again", || async {
        let before = scene.events("accessed").await.len();
        tool(&scene.keys, "tail -c 1 a.key");
        (scene.events("accessed").await.len() > before).then_some(())
    })
    .await;
    scene.stop().await;
}
