//! Runs the scripts of `tests/golden/alert/`, whose README explains the format. After each line the alert is written and
//! read again as a store would, so every script is also a restart between any two lines. Tests only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keyvigil_common::config::Period;
use keyvigil_common::sample::Tags;

use super::event::{self, Happened};
use super::{Alert, Kind, Observation, Rule, RuleKind, Step, Tick, acknowledge, close, evaluate};

/// Somewhere in November 2025; scripts count from here.
const START_MS: i64 = 1_763_834_400_000;

#[derive(Default)]
struct Script {
    rule: Rule,
    interval_ms: i64,
    alerts: BTreeMap<String, Alert>,
    happened: Vec<String>,
}

impl Script {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (verb, words.as_slice()) {
            ("rule", _) => {
                self.rule = serde_json::from_str(rest).map_err(|e| e.to_string())?;
                self.rule.check().map_err(|faults| faults.join("; "))
            }
            ("interval", [length]) => ms(length).map(|ms| self.interval_ms = ms),
            ("at", [time, what @ ..]) => self.evaluate(ms(time)?, what),
            ("every", [step, "from", from, "to", to, what @ ..]) => {
                let (step, from, to) = (ms(step)?, ms(from)?, ms(to)?);
                (0..=(to - from) / step).try_for_each(|n| self.evaluate(from + n * step, what))
            }
            ("ack", [time, who, ..]) => {
                let alert = self.alerts.values().next().ok_or("there is no alert")?;
                let note = rest.splitn(3, ' ').nth(2);
                let step = acknowledge(alert, who, note, START_MS + ms(time)?).map_err(|e| e.to_string())?;
                self.keep(step)
            }
            ("close", [time, ..]) => {
                let alert = self.alerts.values().next().ok_or("there is no alert")?;
                let step = close(alert, rest.split_once(' ').map_or("", |(_, why)| why), START_MS + ms(time)?);
                self.keep(step)
            }
            ("expect", words) => self.expect(words),
            ("summary", _) => {
                let found = self.alerts.values().next().map_or("", |alert| &alert.summary);
                if found == rest { Ok(()) } else { Err(format!("the summary is {found:?}")) }
            }
            _ => Err("no such line; see README.md".into()),
        }
    }

    fn evaluate(&mut self, at: i64, what: &[&str]) -> Result<(), String> {
        let tick = Tick { now_ms: START_MS + at, interval_ms: self.interval_ms };
        let happened = match what {
            ["happened", exe, user] => vec![Happened {
                host: "web-1".into(),
                key: "k1".into(),
                path: "/k.pem".into(),
                exe: (*exe).into(),
                user: (*user).into(),
                message: format!("{user} opened /k.pem"),
                times: 1,
            }],
            _ => Vec::new(),
        };
        if self.rule.kind == RuleKind::Event && (!happened.is_empty() || what == ["quiet"]) {
            let seen = event::observe(&self.rule, &happened, &self.alerts, tick.now_ms);
            return evaluate(&self.rule, &self.alerts, &seen, tick).into_iter().try_for_each(|step| self.keep(step));
        }
        let value = match what {
            ["value", number] => Some(Some(number.parse::<f64>().map_err(|e| e.to_string())?)),
            ["missing"] => Some(None),
            ["vanished"] => None,
            _ => return Err("what was seen is not `value NUMBER`, `missing` or `vanished`".into()),
        };
        let tags = Tags::new([("host", "web-1")]).map_err(|e| e.to_string())?;
        let seen: Vec<Observation> = value.into_iter().map(|value| Observation::new(&self.rule.metric_pattern, tags.clone(), value)).collect();
        evaluate(&self.rule, &self.alerts, &seen, tick).into_iter().try_for_each(|step| self.keep(step))
    }

    fn keep(&mut self, step: Step) -> Result<(), String> {
        if let Some(transition) = step.transition {
            self.happened.push(serde_json::to_value(transition.kind).map_err(|e| e.to_string())?.as_str().unwrap_or_default().to_owned());
            if transition.kind == Kind::Withdrawn && step.alert.as_ref().is_some_and(|alert| alert.fired_at.is_none()) {
                return Err("a withdrawn alert that never fired must go".into());
            }
        }
        match step.alert {
            None => drop(self.alerts.remove(&step.id)),
            Some(alert) => {
                let stored = serde_json::to_string(&alert).map_err(|e| e.to_string())?;
                let read: Alert = serde_json::from_str(&stored).map_err(|e| e.to_string())?;
                if read != alert {
                    return Err("the alert is not the same after it was stored and read".into());
                }
                self.alerts.insert(step.id, read);
            }
        }
        Ok(())
    }

    fn expect(&mut self, words: &[&str]) -> Result<(), String> {
        let mut found = match self.alerts.values().next() {
            None => vec!["nothing".to_owned()],
            Some(alert) if alert.stale => vec![alert.state.to_string(), "stale".to_owned()],
            Some(alert) => vec![alert.state.to_string()],
        };
        found.append(&mut self.happened);
        if found == words { Ok(()) } else { Err(format!("found: {}", found.join(" "))) }
    }
}

fn ms(text: &str) -> Result<i64, String> {
    text.parse::<Period>().map(Period::as_ms)
}

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/alert");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    paths.sort();
    paths
}

#[test]
fn every_script_is_played_as_written() {
    let paths = scripts();
    assert!(paths.len() >= 8, "the scripts are gone: {paths:?}");
    let mut faults = Vec::new();
    for path in paths {
        let mut script = Script { interval_ms: 15_000, ..Script::default() };
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())).filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            if let Err(fault) = script.line(line) {
                faults.push(format!("{}:{number}: {line}\n    {fault}", path.display()));
                break;
            }
        }
        if !script.happened.is_empty() {
            faults.push(format!("{}: ends with what nobody expected: {:?}", path.display(), script.happened));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
