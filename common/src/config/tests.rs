use super::*;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(default)]
struct Smtp {
    host: String,
    port: u16,
    password: Secret,
}

impl Default for Smtp {
    fn default() -> Self {
        Self { host: "localhost".into(), port: 25, password: Secret::default() }
    }
}

#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
struct Keystore {
    paths: Vec<String>,
    enabled: bool,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(default)]
struct Sample {
    interval: Period,
    intervals: BTreeMap<String, (Period, Period)>,
    labels: BTreeMap<String, String>,
    smtp: Smtp,
    keystore: Keystore,
}

impl Default for Sample {
    fn default() -> Self {
        Self { interval: Period::seconds(10), intervals: BTreeMap::new(), labels: BTreeMap::new(), smtp: Smtp::default(), keystore: Keystore::default() }
    }
}

fn sources(file: Option<PathBuf>, env: &[(&str, &str)]) -> Sources {
    let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Sources { file, env, aliases: &[("SMTP_SERVER", "smtp.host"), ("SMTP_PORT", "smtp.port")], foreign: &["storage"] }
}

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> Option<PathBuf> {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    Some(path)
}

#[test]
fn what_stands_below_names_that_users_choose_comes_from_the_environment_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.toml", "[intervals]\nkeystore = [\"1m\", \"5m\"]\ncpu = [\"1s\", \"2s\"]\n");
    let config: Sample = load(&sources(path, &[("KEYVIGIL_INTERVALS__KEYSTORE", "3s:10s"), ("KEYVIGIL_LABELS__SITE", "a:b")])).unwrap();
    assert_eq!(config.intervals["keystore"], (Period::seconds(3), Period::seconds(10)), "the environment wins");
    assert_eq!(config.intervals["cpu"], (Period::seconds(1), Period::seconds(2)));
    assert_eq!(config.labels["site"], "a:b", "a text stays one");
    for (wrong, word) in [("3s", "length 1"), ("3s:soon", "length of time"), ("3s:4s:5s", "intervals.keystore")] {
        let faults = load::<Sample>(&sources(None, &[("KEYVIGIL_INTERVALS__KEYSTORE", wrong)])).unwrap_err();
        assert!(faults.0.len() == 1 && faults.0[0].starts_with("intervals.keystore") && faults.0[0].contains(word), "{wrong}: {faults}");
    }
}

#[test]
fn environment_beats_file_beats_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.toml", "interval = \"5m\"\n[smtp]\nhost = \"from-file\"\nport = 2525\n");
    let env = [("KEYVIGIL_SMTP__HOST", "from-env"), ("KEYVIGIL_KEYSTORE__PATHS", "/a:/b"), ("KEYVIGIL_KEYSTORE__ENABLED", "true")];
    let config: Sample = load(&sources(path, &env)).unwrap();
    assert_eq!(config.interval, Period::seconds(300));
    assert_eq!((config.smtp.host.as_str(), config.smtp.port), ("from-env", 2525));
    assert_eq!((config.keystore.paths, config.keystore.enabled), (vec!["/a".to_owned(), "/b".to_owned()], true));
}

#[test]
fn variables_of_another_program_in_the_same_environment_are_no_fault() {
    assert!(load::<Sample>(&sources(None, &[("KEYVIGIL_STORAGE__PATH", "/x")])).is_ok());
    assert!(load::<Sample>(&sources(None, &[("KEYVIGIL_STORAGES__PATH", "/x")])).is_err());
}

#[test]
fn json_of_the_same_shape_and_older_names_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.json", r#"{"interval": 30, "smtp": {"port": 1}}"#);
    let config: Sample = load(&sources(path, &[("SMTP_SERVER", "old-name"), ("SMTP_PORT", "587")])).unwrap();
    assert_eq!((config.interval, config.smtp.host.as_str(), config.smtp.port), (Period::seconds(30), "old-name", 587));
}

#[test]
fn all_faults_come_at_once_each_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.toml", "[smtp]\nhots = \"x\"\n[keystore]\nenabled = \"perhaps\"\n");
    let faults = load::<Sample>(&sources(path, &[("SMTP_PORT", "many"), ("KEYVIGIL_KEYSTORE__PATH", "/a")])).unwrap_err().to_string();
    for expected in ["smtp.port: \"many\" is not a whole number", "smtp.hots: no such key; the nearest known one is smtp.host", "keystore.enabled"] {
        assert!(faults.contains(expected), "{expected:?} not in:\n{faults}");
    }
    let only_unknown = load::<Sample>(&sources(None, &[("KEYVIGIL_KEYSTORE__PATH", "/a")])).unwrap_err().to_string();
    assert_eq!(only_unknown, "keystore.path: no such key; the nearest known one is keystore.paths");
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = load::<Sample>(&sources(Some(dir.path().join("none.toml")), &[])).unwrap_err().to_string();
    assert!(missing.contains("none.toml"), "{missing}");
    let broken = load::<Sample>(&sources(file(&dir, "b.toml", "a = = 1"), &[])).unwrap_err().to_string();
    assert!(broken.contains("b.toml") && broken.contains("line 1"), "{broken}");
}

#[test]
fn secrets_come_from_files_and_credentials_and_never_print() {
    let dir = tempfile::tempdir().unwrap();
    let secret = file(&dir, "smtp.password", "hunter2\n").unwrap();
    for env in [("KEYVIGIL_SMTP__PASSWORD_FILE", secret.to_str().unwrap()), ("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())] {
        let config: Sample = load(&sources(None, &[env])).unwrap();
        assert_eq!(config.smtp.password.expose(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    }
}

#[test]
fn periods_print_as_they_are_written() {
    for text in ["500ms", "10s", "5m", "36h", "7d", "0ms"] {
        assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
    }
    for bad in ["", "s", "-1s", "1 fortnight", "99999999999999999999s", "18446744073709551615d"] {
        assert!(bad.parse::<Period>().is_err(), "{bad}");
    }
}
