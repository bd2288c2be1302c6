//! The systemd units: they parse, they are as tight as promised, and they leave the daemons what they need. Needs
//! `systemd-analyze` (package systemd), which `make test` installs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Daemon, and the exposure that its unit may have at most, in tenths (0 is closed, 100 is open).
const UNITS: &[(&str, u32)] = &[("keyvigil-agent", 25), ("keyvigil-aggregator", 15)];

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
    for (name, tenths) in UNITS {
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
    for (name, _) in UNITS {
        let copy = dir.path().join(format!("{name}.service"));
        // The daemon need not be installed for this.
        std::fs::write(&copy, text(name).replace(&format!("ExecStart=/usr/bin/{name} run"), "ExecStart=/bin/true")).unwrap();
        let out = analyze(&["verify", "--man=no"], &copy);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && !said.contains(name), "{name}: {said}");
    }
}

#[test]
fn systemd_252_knows_the_type_and_nothing_reloads_that_cannot() {
    for (name, _) in UNITS {
        let text = text(name);
        assert_eq!(values(&text, "Type"), ["notify"], "{name}");
        assert!(values(&text, "ExecReload").is_empty(), "{name} has no reload: SIGHUP would end it");
        assert!(values(&text, "WatchdogSec").is_empty(), "{name} sends no signs of life: systemd would end it");
        assert_eq!(values(&text, "ExecStart"), [format!("/usr/bin/{name} run")]);
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
