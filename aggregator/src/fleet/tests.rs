use super::agent::SILENT_MS_MAX;
use super::*;
use keyvigil_common::tls::Identity;

fn agent(id: u64, host: u64, machine: u64, key: u64) -> Agent {
    let joined = Joined { token: "t".into(), key: format!("key-{key}"), at_ms: 1_000 };
    let identity = Identity { tenant: "default".into(), agent: format!("id-{id}") };
    Agent { joined: Some(joined), ..Agent::joining(&identity, format!("host-{host}"), &format!("machine-{machine}"), 0) }
}

#[test]
fn whatever_interval_an_agent_tells_it_is_silent_after_a_day_without_a_word() {
    let heard = |interval_ms| Agent { last_seen_ms: Some(0), interval_ms, ..agent(1, 1, 1, 1) };
    let states = |agent: &Agent, at: [i64; 2]| at.map(|at_ms| agent.state(at_ms));
    assert_eq!(states(&heard(10_000), [60_000, 60_001]), [HostState::Up, HostState::Silent]);
    assert_eq!(states(&heard(3_600_000), [3 * 3_600_000, 3 * 3_600_000 + 1]), [HostState::Up, HostState::Silent]);
    assert_eq!(states(&heard(u32::MAX), [SILENT_MS_MAX, SILENT_MS_MAX + 1]), [HostState::Up, HostState::Silent]);
}

#[test]
fn who_is_found_by_name_is_who_a_look_at_everyone_finds() {
    let (mut roll, mut all, mut expected) = (Roll::default(), std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    let mut random = 1u64;
    for step in 0..2_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let n = |shift: u32, below: u64| (random >> shift) % below;
        let it = agent(n(33, 12), n(37, 6), n(41, 6), n(45, 6));
        let id = it.id.clone();
        match n(50, 3) {
            0 => {
                roll.put(1, it.clone(), 0);
                all.insert(id, it);
            }
            1 => {
                let decision = roll.expect(1, it.clone());
                expected.insert(id, (it, decision));
            }
            _ => {
                if let Some((_, decision)) = expected.get(&id).cloned() {
                    roll.expect_no_more(1, &id, decision + 1);
                    roll.expect_no_more(1, &id, decision);
                    expected.remove(&id);
                }
            }
        }
        let mut decided = all.clone();
        decided.extend(expected.iter().map(|(id, (it, _))| (id.clone(), it.clone())));
        let ids = |found: Vec<&Agent>| {
            let mut ids: Vec<String> = found.into_iter().map(|agent| agent.id.clone()).collect();
            ids.sort();
            ids
        };
        for name in 0..6 {
            let (host, machine, key) = (format!("host-{name}"), format!("machine-{name}"), format!("key-{name}"));
            let scan = |is: &dyn Fn(&Agent) -> bool| ids(decided.values().filter(|agent| is(agent)).collect());
            assert_eq!(ids(roll.of_host(1, &host).collect()), scan(&|agent| agent.host == host), "step {step}");
            assert_eq!(ids(roll.of_machine(1, &machine).collect()), scan(&|agent| agent.machine == machine), "step {step}");
            assert_eq!(ids(roll.of_join(1, &key).collect()), scan(&|agent| agent.joined.as_ref().is_some_and(|joined| joined.key == key)), "step {step}");
            assert_eq!(roll.of_host(2, &host).count(), 0, "another tenant's");
        }
    }
}

#[test]
fn a_name_that_is_promised_is_taken_until_the_commit_has_failed() {
    let fleet = Arc::new(Fleet::default());
    let claim = || fleet.claim(1, "host-1", "abcdef", 1_000);
    let expected = fleet.expect(1, &agent(1, 1, 1, 1));
    assert_eq!((claim(), fleet.get(1, "id-1"), fleet.len()), ("host-1-abcd".to_owned(), None, 0));
    assert_eq!(fleet.of_join(1, "t", "key-1", 1_000).map(|agent| agent.id), Some("id-1".to_owned()));
    assert_eq!(fleet.of_join(1, "t", "key-1", 1_001), None, "too long ago");
    assert_eq!(fleet.of_join(1, "u", "key-1", 1_000), None, "by another token");
    drop(expected);
    assert_eq!((claim(), fleet.decided(1, "id-1")), ("host-1".to_owned(), None));
    let expected = fleet.expect(1, &agent(1, 1, 1, 1));
    fleet.set(1, agent(1, 1, 1, 1), 0);
    drop(expected);
    assert_eq!((claim(), fleet.of_machine(1, "machine-1").map(|agent| agent.id)), ("host-1-abcd".to_owned(), Some("id-1".to_owned())));
}

#[test]
fn an_agent_that_dies_after_a_batch_of_its_slowest_sensor_is_silent_as_soon_as_any_other() {
    let (second, mut agent) = (1_000, agent(1, 1, 1, 1));
    let heard = |agent: &mut Agent, interval_ms: u32, at_ms: i64| {
        agent.paced(interval_ms, at_ms);
        agent.last_seen_ms = Some(at_ms);
    };
    for at in 1_000..1_030 {
        heard(&mut agent, 10_000, at * 10 * second);
    }
    let died = 10_300 * second;
    heard(&mut agent, 300_000, died);
    assert_eq!((agent.state(died + 59 * second), agent.state(died + 61 * second)), (HostState::Up, HostState::Silent));
    // One that samples less often from now on is given the time it needs.
    for at in 1..5 {
        heard(&mut agent, 60_000, died + at * 60 * second);
    }
    let slowed = died + 240 * second;
    assert_eq!((agent.state(slowed + 179 * second), agent.state(slowed + 181 * second)), (HostState::Up, HostState::Silent));
}
