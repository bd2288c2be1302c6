use super::*;
use keyvigil_common::config::{AGGREGATOR_SECTIONS, Sources};

fn used(path: &str, exe: &str, user: &str, unit: &str) -> KeyUser {
    KeyUser {
        path: path.into(),
        exe: exe.into(),
        user: user.into(),
        unit: unit.into(),
        first_ms: 1_763_834_400_000,
        last_ms: 1_763_838_000_000,
        count: 2,
        ..KeyUser::default()
    }
}

/// The policies of a proposal, read as the agent reads them.
fn read(text: &str) -> Vec<crate::collect::AccessPolicy> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, text).unwrap();
    let sources = Sources { file: Some(file), env: BTreeMap::new(), aliases: &[], foreign: AGGREGATOR_SECTIONS };
    Config::read(&sources).unwrap_or_else(|faults| panic!("{faults:?} in:\n{text}")).access.policy
}

#[test]
fn what_is_proposed_is_valid_and_allows_no_pair_that_was_not_seen() {
    let users = [
        used("/k/a.pem", "/usr/sbin/nginx", "root", "nginx.service"),
        used("/k/b.pem", "/usr/sbin/nginx", "root", "nginx.service"),
        used("/k/c.pem", "/bin/a", "root", ""),
        used("/k/c.pem", "/bin/a", "bob", ""),
        used("/k/c.pem", "/bin/b", "root", ""),
        used("/k/c.pem", "/bin/b", "bob", ""),
        used("/k/c.pem", "/bin/c", "bob", "container web"),
        used("/k/[x]\n\"{a,b}*.pem", "/opt/we?ird\\", "root", "session-*.scope"),
        used("/k/d.pem", "", "root", ""),
    ];
    let watch = Watch { began_ms: 1_763_834_400_000, until_ms: 1_763_920_800_000, seen_ms: 3_600_000, blind: Some("no\nhelper".into()), forgotten: 3 };
    let text = proposal(&users, &watch, None, 1_763_920_800_000);
    let told: Vec<String> =
        read(&text).iter().map(|policy| format!("{:?} {:?} {:?} {:?} {:?}", policy.path, policy.exe, policy.user, policy.unit, policy.container)).collect();
    assert_eq!(
        told,
        [
            r#"["/k/\\[x\\]\n\"\\{a\\,b\\}\\*.pem"] ["/opt/we\\?ird\\\\"] ["root"] ["session-*.scope"] []"#,
            r#"["/k/a.pem", "/k/b.pem"] ["/usr/sbin/nginx"] ["root"] ["nginx.service"] []"#,
            r#"["/k/c.pem"] ["/bin/a", "/bin/b"] ["bob", "root"] [] []"#,
            r#"["/k/c.pem"] ["/bin/c"] ["bob"] [] ["web"]"#,
        ]
    );
    for said in [
        "for 60 min of 24 h",
        "Not seen now: no?helper",
        "3 users of keys were forgotten",
        "Left out, as its program is not known: 2 times by user root on /k/d.pem",
    ] {
        assert!(text.contains(said), "{said} is missing in:\n{text}");
    }
    assert!(text.contains("# /usr/sbin/nginx as root: 2 times, 2025-11-22 18:00 UTC to 2025-11-22 19:00 UTC, /k/b.pem"), "{text}");
}

#[test]
fn a_program_and_a_user_that_were_not_seen_together_stay_apart() {
    let users = [used("/k", "/bin/a", "root", ""), used("/k", "/bin/b", "bob", ""), KeyUser { offends: true, ..used("/k", "/bin/a", "eve", "") }];
    let text = proposal(&users, &Watch { began_ms: 1, ..Watch::default() }, Some("7 d".into()), 2);
    let told: Vec<String> = read(&text).iter().map(|policy| format!("{:?} {:?}", policy.exe, policy.user)).collect();
    assert_eq!(told, [r#"["/bin/a"] ["eve", "root"]"#, r#"["/bin/b"] ["bob"]"#]);
    assert!(text.contains("# /bin/a as eve: 2 times, 2025-11-22 18:00 UTC to 2025-11-22 19:00 UTC; NOT ALLOWED by the policy of then"), "{text}");
}
