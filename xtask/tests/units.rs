//! The systemd units: they parse, they are as tight as promised, and they leave the daemons what they need. Needs
//! `systemd-analyze` (package systemd), which `make test` installs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Unit, what it runs, and the exposure that it may have at most, in tenths (0 is closed, 100 is open).
const UNITS: &[(&str, &str, u32)] =
    &[("keyvigil-agent", "keyvigil-agent run", 25), ("keyvigil-aggregator", "keyvigil-aggregator run", 15), ("keyvigil-probe", "keyvigil-agent probe", 25)];

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../systemd/{name}.service"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(unit(name)).expect("the unit is there")
}

fn analyze(arguments: &[&str], file: &Path) -> Output {
    Command::new("systemd-analyze").args(arguments).arg(file).output().expect("systemd-analyze is installed (package systemd)")
}

/// Values of `key`, in order.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn units_are_as_tight_as_promised() {
    for (name, _, tenths) in UNITS {
        let out = analyze(&["security", "--offline=true", "--no-pager", &format!("--threshold={tenths}")], &unit(name));
        let said = String::from_utf8_lossy(&out.stdout);
        let score = said.lines().last().unwrap_or_default();
        assert!(out.status.success(), "{name} may have {tenths} tenths: {score}\n{}{}", said, String::from_utf8_lossy(&out.stderr));
        assert!(score.contains("Overall exposure level"), "{name}: {said}");
    }
}

#[test]
fn units_have_no_faults() {
    let dir = tempfile::tempdir().unwrap();
    for (name, command, _) in UNITS {
        let copy = dir.path().join(format!("{name}.service"));
        // The daemon need not be installed for this.
        std::fs::write(&copy, text(name).replace(&format!("ExecStart=/usr/bin/{command}"), "ExecStart=/bin/true")).unwrap();
        let out = analyze(&["verify", "--man=no"], &copy);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && !said.contains(name), "{name}: {said}");
    }
}

#[test]
fn systemd_252_knows_the_type_and_nothing_reloads_that_cannot() {
    for (name, command, _) in UNITS {
        let text = text(name);
        assert_eq!(values(&text, "Type"), ["notify"], "{name}");
        // The agent takes up access policies; the aggregator reads its configuration at start only.
        let reload: &[&str] = if *name == "keyvigil-agent" { &["/bin/kill -HUP $MAINPID"] } else { &[] };
        assert_eq!(values(&text, "ExecReload"), reload, "{name}");
        assert!(values(&text, "WatchdogSec").is_empty(), "{name} sends no signs of life: systemd would end it");
        assert_eq!(values(&text, "ExecStart"), [format!("/usr/bin/{command}")]);
    }
}

#[test]
fn the_agent_still_sees_its_host() {
    let text = text("keyvigil-agent");
    for key in ["ProtectClock", "ProcSubset", "ProtectProc", "PrivateUsers", "PrivateNetwork"] {
        assert!(values(&text, key).is_empty(), "{key}= would blind a sensor");
    }
    assert_eq!(values(&text, "ProtectHome"), ["read-only"]);
    assert_eq!(values(&text, "CapabilityBoundingSet"), ["CAP_DAC_READ_SEARCH"]);
    assert_eq!(values(&text, "SystemCallFilter").last(), Some(&"adjtimex clock_adjtime"), "later lines win");
}

#[test]
fn the_helper_has_what_it_needs_and_no_network() {
    let text = text("keyvigil-probe");
    let needs = "CAP_BPF CAP_PERFMON CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH";
    assert_eq!(values(&text, "CapabilityBoundingSet"), [needs]);
    assert_eq!(values(&text, "AmbientCapabilities"), [needs]);
    assert_eq!((values(&text, "PrivateNetwork"), values(&text, "RestrictAddressFamilies")), (vec!["yes"], vec!["AF_UNIX"]));
    assert_eq!(values(&text, "SystemCallFilter").last(), Some(&"bpf perf_event_open @chown capset"), "later lines win");
    for key in ["ProcSubset", "ProtectProc", "PrivateUsers"] {
        assert!(values(&text, key).is_empty(), "{key}= would hide the processes whose libraries it looks for");
    }
    let user = values(&text, "User");
    assert!(!user.contains(&"root") && !user.contains(&"keyvigil"), "neither root nor the agent: {user:?}");
}
